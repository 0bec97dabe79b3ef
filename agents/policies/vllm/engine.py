"""vLLM in this process: one engine on this process's device, which sleeps while the trainer needs the memory."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from PIL import Image as Pil

from anatomy_r1.agents.configs import VllmSettings, require_vllm
from anatomy_r1.agents.policies.protocol import PolicyLost
from anatomy_r1.agents.policies.vllm.compat import forget_caches, reload_weights, surroundings_kept
from anatomy_r1.agents.policies.vllm.weights import CheckpointWeights
from anatomy_r1.core import AnatomyError, Image, one_line


@dataclass(frozen=True)
class Request:
    """A prompt to be answered n times."""

    tokens: Sequence[int]
    """Of the prompt, the image's placeholder as in the chat template: vLLM expands it."""
    image: Image
    n: int
    seed: int | None
    """None where the answer is greedy."""


@dataclass(frozen=True)
class Sample:
    """One answer as it was sampled."""

    tokens: Sequence[int]
    logprobs: Sequence[float]
    finish_reason: str
    """``stop`` or ``length``."""


@dataclass(frozen=True)
class Answers:
    """The answers to a request."""

    prompt: Sequence[int]
    """Tokens of the prompt as the engine expanded them."""
    samples: Sequence[Sample]


class Engine(Protocol):
    """What VllmPolicy needs of vLLM, wherever it runs."""

    @property
    def dtype(self) -> torch.dtype | None:
        """That it computes in, where that is known."""

    def generate(self, requests: Sequence[Request], sampling: Mapping[str, Any]) -> list[Answers]:
        """Answer requests; ``sampling`` are vLLM's sampling parameters that all of them share."""

    def update(self, weights: CheckpointWeights) -> None:
        """Take new weights by their checkpoint names, and forget what was cached under the old ones."""

    def sleep(self) -> None:
        """Give memory back until the next update."""

    def describe(self) -> dict[str, Any]:
        """What reports say of it."""


class LocalEngine:
    """vLLM's ``LLM`` in this process.

    Args:
        model: folder or hub id.
        settings: how it runs.
        dummy: start with random weights; the real ones come with the first update.

    Raises:
        AnatomyError: vLLM is missing, of another version, or can't start with this model.
    """

    def __init__(self, model: str, settings: VllmSettings, *, dummy: bool = False) -> None:
        require_vllm()
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            raise AnatomyError(
                "vllm: an engine in the process serves runs of one process; with several, start a server "
                "(vllm serve …) and give its address with --vllm.server."
            )
        cuda = torch.cuda.is_available()
        self._sleeps, self._asleep = settings.sleep and cuda, False
        dtype = ("bfloat16" if cuda else "float32") if settings.dtype == "auto" else settings.dtype
        with surroundings_kept():
            import vllm

            self._vllm: Any = vllm
            try:
                self._llm: Any = vllm.LLM(
                    model=model,
                    dtype=dtype,
                    load_format="dummy" if dummy else "auto",
                    gpu_memory_utilization=settings.memory_share,
                    max_model_len=settings.max_model_len or None,
                    enforce_eager=settings.enforce_eager,
                    enable_sleep_mode=self._sleeps,
                    enable_prefix_caching=True,
                    # On CPUs, vLLM 0.32 fails on a seeded request whose prompt it takes in parts.
                    enable_chunked_prefill=None if cuda else False,
                    limit_mm_per_prompt={"image": 1},
                    logprobs_mode="processed_logprobs",
                    generation_config="vllm",
                    seed=0,
                )
            except Exception as error:
                raise AnatomyError(
                    f"vllm: no engine for {model} ({one_line(error)}).\n"
                    "If memory is short, change --vllm.memory-share or lower --vllm.max-model-len."
                ) from None
        self.dtype: torch.dtype | None = getattr(torch, dtype)
        self._about = {"mode": "in process", "vllm": str(vllm.__version__), "dtype": dtype}

    def generate(self, requests: Sequence[Request], sampling: Mapping[str, Any]) -> list[Answers]:
        """See :meth:`Engine.generate`."""
        prompts = [
            {"prompt_token_ids": list(one.tokens), "multi_modal_data": {"image": Pil.fromarray(one.image)}}
            for one in requests
        ]
        parameters = [self._vllm.SamplingParams(**sampling, n=one.n, seed=one.seed) for one in requests]
        with self._or_lost("sampling"):
            outputs = self._llm.generate(prompts, parameters, use_tqdm=False)
        return [Answers(output.prompt_token_ids, [_sample(one) for one in output.outputs]) for output in outputs]

    def update(self, weights: CheckpointWeights) -> None:
        """See :meth:`Engine.update`; wakes the engine."""
        with self._or_lost("taking new weights"):
            if self._asleep:
                self._llm.wake_up(tags=["weights"])
            reload_weights(self._llm, weights)
            if self._asleep:
                self._llm.wake_up(tags=["kv_cache"])
            forget_caches(self._llm)
        self._asleep = False

    def sleep(self) -> None:
        """See :meth:`Engine.sleep`. Weights are dropped, not kept in the host's memory: an update brings new ones."""
        if self._sleeps and not self._asleep:
            with self._or_lost("going to sleep"):
                self._llm.sleep(level=2)
            self._asleep = True

    def describe(self) -> dict[str, Any]:
        """See :meth:`Engine.describe`."""
        return dict(self._about)

    @contextmanager
    def _or_lost(self, doing: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            raise PolicyLost(f"vllm: the engine failed while {doing} ({one_line(error)}).") from error


def _sample(output: Any) -> Sample:
    logprobs = [place[token].logprob for token, place in zip(output.token_ids, output.logprobs, strict=True)]
    return Sample(output.token_ids, logprobs, output.finish_reason)
