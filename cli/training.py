"""What the training commands share: loading the model, evaluating before and after, and the closing table."""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anatomy_r1.agents import TINY_FOLDER, ModelConfig, Policy, require_training_extra
from anatomy_r1.banks import Bank
from anatomy_r1.cli.console import console, progress, table
from anatomy_r1.core import AnatomyError
from anatomy_r1.evaluation import Estimate, Results, default_baselines, evaluate, load_results
from anatomy_r1.evaluation.records import RESULTS
from anatomy_r1.workflows import Scalar

if TYPE_CHECKING:
    from anatomy_r1.agents.model import Backbone
    from anatomy_r1.agents.training import Distributed

BankOptions = dict[str, Scalar]


@dataclass(frozen=True)
class HeldOut:
    """Evaluation before and after training."""

    split: str = "test"
    """Whose questions are asked."""
    limit: int = 400
    """Distinct questions; 0 leaves the evaluations out."""
    seed: int = 0
    """Seed of their draw; the same questions before and after."""
    temperature: float = 0.0
    """Of the answers; 0 is greedy."""


def load_backbone(policy: str, model: ModelConfig | None = None, seed: int = 0) -> "Backbone":
    """Load the model that a policy spec names, ``tiny`` or ``hf:PATH_OR_ID``, and decide what of it learns."""
    require_training_extra("training")
    import torch

    from anatomy_r1.agents.model import Backbone, choose_what_learns

    model = model or ModelConfig()
    backbone = Backbone.load(
        model_path(policy), dtype=getattr(torch, model.dtype), trust_remote_code=model.trust_remote_code,
        pixels=(model.min_pixels, model.max_pixels),
    )  # fmt: skip
    choose_what_learns(backbone.model, model, seed=seed)
    return backbone


def model_path(policy: str) -> str | Path:
    """Folder or hub id that a policy spec names."""
    if policy == "tiny":
        return TINY_FOLDER
    if not policy.startswith("hf:"):
        raise AnatomyError(f"training needs a model: policy must be tiny or hf:PATH_OR_ID, got {policy!r}.")
    return policy.removeprefix("hf:")


def training_part(bank: Bank) -> Bank:
    """The bank's train split, or all of a bank that has none."""
    return bank.split("train") if "train" in bank.splits else bank


def evaluate_with_progress(
    policy: Policy, bank: Bank, held_out: HeldOut, out: Path, title: str, **options: Any
) -> Results:
    """Evaluate into ``out`` with progress, or read what is there if it is complete."""
    if (out / RESULTS).exists():
        return load_results(out)
    with progress(title, held_out.limit) as update:
        return evaluate(
            policy,
            bank,
            split=held_out.split,
            limit=held_out.limit,
            seed=held_out.seed,
            out=out,
            resume=True,
            progress=lambda done, total, accuracy: update(done, f"accuracy {accuracy:.3f}"),
            **options,
        )


@contextlib.contextmanager
def before_and_after(
    backbone: "Backbone", bank: Bank, held_out: HeldOut, out: Path, max_new_tokens: int,
    distributed: "Distributed | None" = None,
) -> Iterator[dict[str, Results]]:  # fmt: skip
    """Evaluate a model around the block that trains it; the results are in what is yielded, by side.

    Of several processes the main one evaluates, and the others wait.
    """
    from anatomy_r1.agents.policies import TransformersPolicy

    results: dict[str, Results] = {}
    baselines = default_baselines(bank, seed=held_out.seed) if held_out.limit else ()

    def side(name: str) -> None:
        if distributed is None:
            return ask(name)
        with distributed.gathered_weights():
            if distributed.is_main:
                ask(name)
        distributed.accelerator.wait_for_everyone()

    def ask(name: str) -> None:
        if held_out.limit:
            policy = TransformersPolicy(
                backbone, temperature=held_out.temperature, max_new_tokens=max_new_tokens, seed=held_out.seed
            )
            results[name] = evaluate_with_progress(
                policy, bank, held_out, out / name, f"evaluate {name}", baselines=baselines
            )

    side("before")
    yield results
    side("after")


def show_comparison(results: Mapping[str, Results]) -> None:
    """Print the before/after table."""
    if not results:
        return
    last = list(results.values())[-1]
    rows = [[side, *_figures(result.accuracy), f"{result.format_failures:.1%}"] for side, result in results.items()]
    rows += [[f"{name} (image-blind)", *_figures(estimate), ""] for name, estimate in last.baselines.items()]
    table(
        f"{last.bank}, {last.split} split: held-out accuracy",
        ("", "accuracy", "95 % interval", "n", "no valid format"),
        rows,
    )


def _figures(estimate: Estimate) -> tuple[str, str, str]:
    interval = "" if estimate.ci_low == estimate.ci_high else f"{estimate.ci_low:.3f} – {estimate.ci_high:.3f}"
    return f"{estimate.value:.3f}", interval, f"{estimate.n}"


def finish_report(out: Path) -> None:
    """Write the report if its libraries are there, and say where it is."""
    from anatomy_r1.evaluation import write_report

    try:
        console.print(f"report: {write_report(out)}")
    except AnatomyError as error:
        if "anatomy-r1[report]" not in str(error):
            raise
        console.print(f"no report: {error}")
