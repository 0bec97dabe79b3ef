"""The command that makes a run once more: what of its settings is not the default, as flags."""

import dataclasses
import json
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from anatomy_r1.agents import SizeDefaults
from anatomy_r1.cli.evaluate import EvaluateConfig
from anatomy_r1.core import AnatomyError
from anatomy_r1.evaluation.records import RESULTS, load_results, read_settings
from anatomy_r1.workflows import CONFIG, RunConfig, SFTRunConfig, TrainConfig, read_config

LARGE = 1_000_000_000
"""Parameters that a model which is not embedded is taken to have: whose defaults a setting is compared with."""


def run_command(run: Path) -> str:
    """The command line that a run was made by, into a folder beside it.

    Returns:
        "" where it can't be told: no settings were written down, or by another version.
    """
    try:
        if (run / CONFIG).exists():
            return _training(run)
        return _evaluation(run) if (run / RESULTS).exists() else ""
    except AnatomyError:
        return ""


def _training(run: Path) -> str:
    supervised = "sft" in read_settings(run)
    kind: type[RunConfig] = SFTRunConfig if supervised else TrainConfig
    config = read_config(kind, run / CONFIG)
    size = 0 if config.policy.startswith("tiny") else LARGE
    default = kind().sized(SizeDefaults.of(size, adapters=config.model.lora.rank > 0))
    return _line("sft" if supervised else "train", dataclasses.asdict(config), dataclasses.asdict(default), run)


def _evaluation(run: Path) -> str:
    asked = load_results(run).config
    if "policy_spec" not in asked:  # asked as a library, by an object that has no name here
        return ""
    default = dataclasses.asdict(EvaluateConfig())
    given = {**asked, "policy": asked["policy_spec"], "bank": asked["bank_spec"]}
    split = {"split": given["split"]} if given.get("split") != "test" else {}
    names = ("policy", "policy_options", "bank", "bank_options", "limit", "n", "permutations", "seed")
    return _line("evaluate", {name: given[name] for name in names if name in given} | split, default, run)


def _line(command: str, given: Mapping[str, Any], default: Mapping[str, Any], run: Path) -> str:
    flags = list(_flags(given, default, ""))
    return shlex.join(["anatomy-r1", command, *flags, "--out", f"{run.parent / run.name}-again"])


def _flags(given: Mapping[str, Any], default: Mapping[str, Any], prefix: str) -> Iterator[str]:
    for name, value in given.items():
        flag, usual = f"--{prefix}{name.replace('_', '-')}", default.get(name)
        if value == usual or value is None or flag == "--out":
            continue
        if isinstance(value, dict) and not name.endswith("options"):
            yield from _flags(value, usual or {}, f"{prefix}{name.replace('_', '-')}.")
        elif isinstance(value, dict):
            yield from (flag, *(_word(part) for pair in value.items() for part in pair))
        elif isinstance(value, bool):
            yield flag if value else f"--{prefix}no-{name.replace('_', '-')}"
        else:
            yield from (flag, _word(value))


def _word(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str)
