"""Is it right on a GPU? Trees against padded rows, adapters, ways of sampling, resuming, running out of memory."""

import copy
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from adapters import adapt
from model import TEXT, TOWER, make_processor
from random_models import TINY_TEXT, TINY_TOWER, device, make_model, never_ending, observed, trainer_of
from timing import now
from worker import Skipped

from anatomy_r1.agents import TINY_FOLDER, GRPOConfig
from anatomy_r1.agents.grpo import GRPO
from anatomy_r1.agents.grpo.trainer import update
from anatomy_r1.agents.logprobs import ResponseLogProbs, build_trees
from anatomy_r1.agents.model import Backbone, fuse_norms
from anatomy_r1.agents.policies import TransformersPolicy
from anatomy_r1.agents.training import RunFolder
from anatomy_r1.banks import open_bank
from anatomy_r1.core import AnatomyError
from anatomy_r1.envs import AnatomyVQAVectorEnv

LARGEST_GAP, LARGEST_GRADIENT = 1e-3, 1e-3
"""In float32 with TF32 off: nats at any token, and norm of the difference over the norm."""
TIMES_PADDED = 1.5
"""In bfloat16 trees may be so much farther from float32 than padded rows are, in the mean."""


def small(*, rehearse: bool, seed: int = 0) -> Backbone:
    """A small model in float32, the same each time."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    processor = make_processor()
    shapes = (TINY_TEXT, TINY_TOWER) if rehearse else (TEXT, TOWER)
    return never_ending(Backbone(make_model(*shapes, torch.float32, processor.tokenizer).eval(), processor, "small"))


def adapted(*, rehearse: bool, kind: str = "ours") -> Backbone:
    """The same with adapters that do something, computed in our way or in peft's."""
    backbone = small(rehearse=rehearse)
    adapt(backbone.model, 32, kind)
    return backbone


def group_of(backbone: Backbone, *, rehearse: bool) -> list[Any]:
    """Trees of one group whose responses are ragged."""
    asked = observed(69 if rehearse else 1100, 0)
    prompt = backbone.encode(asked["image"][0], asked["prompt"][0])
    draw = torch.Generator().manual_seed(3)
    most = 6 if rehearse else 128
    lengths = torch.randint(most // 2, most + 1, (8,), generator=draw).tolist()
    responses = [torch.randint(300, 7000, (n,), generator=draw).tolist() for n in lengths]
    return build_trees(range(8), [prompt] * 8, responses, 1 << 20)


def scored(backbone: Backbone, trees: list[Any], packing: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probs of all tokens and the gradient of their mean, as float64 on the CPU."""
    backbone.model.zero_grad(set_to_none=True)
    scores = ResponseLogProbs(backbone, packing)(trees)
    values = scores.logprobs[scores.mask]
    values.mean().backward()
    parts = [p.grad.flatten().double().cpu() for p in backbone.model.parameters() if p.grad is not None]
    backbone.model.zero_grad(set_to_none=True)
    return values.detach().double().cpu(), torch.cat(parts)


def apart(found: tuple[torch.Tensor, torch.Tensor], right: tuple[torch.Tensor, torch.Tensor]) -> dict[str, float]:
    """By how much log-probs and gradients differ."""
    gaps = (found[0] - right[0]).abs()
    return {
        "largest_gap": float(gaps.max()),
        "mean_gap": float(gaps.mean()),
        "gradient": float((found[1] - right[1]).norm() / right[1].norm()),
    }


def trees(dtype: str, rehearse: bool) -> dict[str, Any]:
    """Trees against padded rows; in bfloat16 both against float32 with the same weights."""
    backbone = small(rehearse=rehearse)
    given = group_of(backbone, rehearse=rehearse)
    if dtype == "float32":
        found = apart(scored(backbone, given, "tree"), scored(backbone, given, "padded"))
        _require(found["largest_gap"] <= LARGEST_GAP and found["gradient"] <= LARGEST_GRADIENT, found)
        return found
    backbone.model.bfloat16()
    exact = Backbone(copy.deepcopy(backbone.model).float(), backbone.processor, "exact")
    exact.banned = backbone.banned
    right = scored(exact, given, "padded")
    ways = {way: apart(scored(backbone, given, way), right) for way in ("tree", "padded")}
    for name in ("mean_gap", "gradient"):
        _require(ways["tree"][name] <= TIMES_PADDED * ways["padded"][name], ways)
    return ways


def adapters(rehearse: bool) -> dict[str, Any]:
    """Trees with our adapters and norms as one kernel each against padded rows as peft and transformers compute them.

    In float32 they are the same; in bfloat16 neither may be much farther from float32 than the other.
    """
    usual = adapted(rehearse=rehearse, kind="peft's")
    given = group_of(usual, rehearse=rehearse)
    right = scored(usual, given, "padded")
    found: dict[str, Any] = {}
    for dtype in (torch.float32, torch.bfloat16):
        ours = adapted(rehearse=rehearse)
        for model in (usual.model, ours.model):
            for name, weight in model.named_parameters():
                weight.data = weight.data.to(torch.float32 if "lora_" in name else dtype)
        fused = fuse_norms(ours.model, ours.device)
        ways = {
            "ours": apart(scored(ours, given, "tree"), right),
            "peft's": apart(scored(usual, given, "padded"), right),
        }
        found[str(dtype).removeprefix("torch.")] = ways | {"norms": len(fused)}
    exact, rounded = found["float32"]["ours"], found["bfloat16"]
    _require(exact["largest_gap"] <= LARGEST_GAP and exact["gradient"] <= LARGEST_GRADIENT, found)
    for name in ("mean_gap", "gradient"):
        _require(rounded["ours"][name] <= TIMES_PADDED * rounded["peft's"][name], found)
    return found


def attention(rehearse: bool) -> dict[str, Any]:
    """The ways of attending over trees against padded rows, and the seconds of forward and backward of each."""
    backbone = small(rehearse=rehearse)
    given = group_of(backbone, rehearse=rehearse)
    right = scored(backbone, given, "padded")
    found: dict[str, Any] = {}
    for way in ("sdpa", "flex"):
        backbone.attention = way
        try:
            found[way] = apart(scored(backbone, given, "tree"), right)
        except AnatomyError as reason:
            if torch.cuda.is_available():
                raise
            found[way] = str(reason).splitlines()[0]
            continue
        started = now()
        scored(backbone, given, "tree")
        found[way]["seconds"] = now() - started
        _require(found[way]["largest_gap"] <= LARGEST_GAP and found[way]["gradient"] <= LARGEST_GRADIENT, found)
    return found


def sampling(rehearse: bool, *, lora: bool = False) -> dict[str, Any]:
    """Buffers of fixed length, captured on CUDA, against a cache that grows; and both against the update's log-probs.

    The two may part where rounding turns a draw: what is asked is that nearly all responses are the same.
    """
    backbone = (adapted if lora else small)(rehearse=rehearse)
    prompt, length = (69, 6) if rehearse else (1100, 64)
    asked, answers, told = observed(prompt, 0, 1), {}, ""
    for way in ("auto", "again", "dynamic"):
        decode = "auto" if way == "again" else way
        policy = TransformersPolicy(backbone, temperature=1.0, max_new_tokens=length, decode=decode)
        answers[way] = policy.respond(asked, n=8)
        told = policy.describe()["decode"] if way == "auto" else told
    tokens = {way: [response.token_ids for response in said] for way, said in answers.items()}
    encoded = [backbone.encode(*pair) for pair in zip(asked["image"], asked["prompt"], strict=True) for _ in range(8)]
    scores = ResponseLogProbs(backbone)(build_trees(range(16), encoded, tokens["auto"], 1 << 20))
    sampled = torch.tensor([response.logprobs for response in answers["auto"]])
    found = {
        "decode": told,
        "repeats": tokens["auto"] == tokens["again"],
        "same": sum(a == b for a, b in zip(tokens["auto"], tokens["dynamic"], strict=True)) / 16,
        "largest_gap": float((scores.logprobs.detach().cpu() - sampled).abs().max()),
    }
    _require(found["repeats"] and found["same"] >= 0.9 and found["largest_gap"] <= LARGEST_GAP, found)
    return found


def resume(rehearse: bool) -> dict[str, Any]:
    """A run that was stopped and resumed against one that was not, weight by weight, bit by bit.

    With torch's deterministic algorithms; how much two equal runs differ without them stands beside it.
    """
    with deterministic():
        whole, again, resumed = _trained(), _trained(), _trained(stop=1)
    loose = [_trained() for _ in range(2)]
    found = {
        "repeats": _distance(whole, again) == 0.0,
        "resumed": _distance(whole, resumed) == 0.0,
        "without deterministic algorithms": _distance(*loose),
    }
    _require(found["repeats"] and found["resumed"], found)
    return found


@contextmanager
def deterministic() -> Iterator[None]:
    """Torch's own choice of algorithms whose sums don't depend on timing; what has none warns.

    cuBLAS takes CUBLAS_WORKSPACE_CONFIG besides, which the process begins with (``__main__.py``).
    """
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


def _trained(stop: int = 0) -> list[torch.Tensor]:
    """Weights of the embedded model after three steps; with ``stop``, in two runs."""
    config = GRPOConfig(
        steps=3, questions_per_step=2, num_generations=4, max_completion_length=12, learning_rate=1e-3, save_every=1
    )

    def trainer() -> GRPO:
        env = AnatomyVQAVectorEnv(num_envs=8, group_size=4, bank=open_bank("scenes").split("train"), seed=4)
        return GRPO(Backbone.load(TINY_FOLDER, device=device()), env, config)

    with tempfile.TemporaryDirectory() as place:
        run, first = RunFolder(Path(place) / "run"), trainer()
        if stop:
            for _ in range(stop):
                first.step()
            folder = Path(place) / "saved"
            folder.mkdir()
            first.save(folder)
            first = trainer()
            first.load(folder)
            while first.step_index < config.steps:
                first.step()
        else:
            first.train(run)
        return [p.detach().cpu().clone() for p in first.backbone.model.parameters()]


def memory_update(rehearse: bool) -> dict[str, Any]:
    """An update that meets a card too small for one pass: it goes on in two, and learns the same."""
    trainer = trainer_of(
        small(rehearse=rehearse),
        prompt=69 if rehearse else 1100,
        response=6 if rehearse else 64,
        group=4,
        questions=4,
        mixed_precision="no",
        max_tokens=1 << 20,
    )
    learner = trainer.learner
    batch = trainer.worker.next_batch(0.0, 0).batch
    update(learner, batch, 0.0)  # what is made once, is there
    whole = sum(map(len, learner.micro_batches(batch, batch.rewards + 1)[0]))
    peaks, norms = {}, {}
    for tokens in (whole, whole // 2):
        learner.max_tokens = tokens
        peaks[tokens], norms[tokens] = _reserved(lambda: update(learner, batch, 0.0)["grad_norm"])
    learner.max_tokens = whole
    with limited(sum(peaks.values()) / 2, ResponseLogProbs, "forward", lambda _, trees, *rest: len(trees) > 2):
        norm = update(learner, batch, 0.0)["grad_norm"]
    found = {"peaks_mib": [peak / 2**20 for peak in peaks.values()], "max_tokens": [whole, learner.max_tokens]}
    found |= {"norms": [norms[whole], norm]}
    _require(learner.max_tokens < whole and abs(norm - norms[whole]) <= 1e-3 * norms[whole], found)
    return found


def memory_sampling(rehearse: bool) -> dict[str, Any]:
    """Sampling that meets a card too small for its rows: it goes on with fewer at a time, and says the same."""
    if rehearse and not torch.cuda.is_available():
        raise Skipped("a CPU's memory can't be made small")
    backbone = small(rehearse=rehearse)
    observations = observed(1100, *range(8))

    def respond() -> Any:
        policy = TransformersPolicy(backbone, temperature=1.0, max_new_tokens=32)
        return [response.token_ids for response in policy.respond(observations, n=8)]

    respond()
    peak, free = _reserved(respond)
    torch.cuda.empty_cache()
    before = torch.cuda.memory_reserved()
    with limited(before + 0.6 * (peak - before)):
        tight = respond()
    same = sum(a == b for a, b in zip(free, tight, strict=True)) / len(free)
    found = {"peak_mib": peak / 2**20, "limit_mib": (before + 0.6 * (peak - before)) / 2**20, "same": same}
    _require(same >= 0.9, found)  # other batch sizes take other kernels, which round otherwise
    return found


def _reserved(work: Any) -> tuple[float, Any]:
    """The most memory that was reserved while something worked, and what it gave."""
    if not torch.cuda.is_available():
        return 0.0, work()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    given = work()
    return float(torch.cuda.max_memory_reserved()), given


@contextmanager
def limited(size: float, owner: Any = None, method: str = "", too_large: Any = None) -> Iterator[None]:
    """So many bytes of the card, and no more; on a CPU, a method that is out of memory where it is ``too_large``."""
    warnings.simplefilter("ignore")
    if not torch.cuda.is_available():
        inner = getattr(owner, method)

        def fails(*inputs: Any, **options: Any) -> Any:
            if too_large(*inputs):
                raise torch.OutOfMemoryError
            return inner(*inputs, **options)

        setattr(owner, method, fails)
        try:
            yield
        finally:
            setattr(owner, method, inner)
        return
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(size / torch.cuda.get_device_properties(0).total_memory)
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)


def _distance(first: list[torch.Tensor], second: list[torch.Tensor]) -> float:
    return max(float((a - b).abs().max()) for a, b in zip(first, second, strict=True))


def _require(holds: bool, found: Any) -> None:
    if not holds:
        raise AssertionError(f"not as it must be: {found}")
