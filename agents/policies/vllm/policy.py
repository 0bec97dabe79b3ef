"""VllmPolicy: the policy of ``TransformersPolicy``, sampled by vLLM."""

import contextlib
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Annotated, Any
from zlib import crc32

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForImageTextToText, GenerationConfig

from anatomy_r1.agents.configs import EMBEDDED, VllmSettings
from anatomy_r1.agents.model import ANSWER_END, Backbone, load_processor, opened_by
from anatomy_r1.agents.policies.protocol import Observations, Response, with_opening
from anatomy_r1.agents.policies.vllm.engine import Answers, Engine, LocalEngine, Request
from anatomy_r1.agents.policies.vllm.server import ServerEngine
from anatomy_r1.agents.policies.vllm.weights import CheckpointWeights, check_names
from anatomy_r1.core import AnatomyError, Count, Image, Range, Seed, image_key

_FORBID = -100.0
"""Added to a forbidden token's logit, the least that vLLM takes: its probability is below 1e-43."""
_NEUTRAL = {
    "top_k": 0,
    "min_p": 0.0,
    "min_tokens": 0,
    "repetition_penalty": 1.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
}
"""What a model's generation config could change, given so that it doesn't."""


class VllmPolicy:
    """Any vision-language model that vLLM serves; responses are distributed as those of ``TransformersPolicy``.

    Args:
        model: folder or hub id; for a server, of the model it serves (its processor and config are read here).
        temperature: 0 decodes greedily.
        top_p: share of probability mass to sample from; keep 1 for training.
        max_new_tokens: responses are cut there and marked ``truncated``; None: 256, of the embedded model 64.
        seed: of the sampling; a response depends on it and on the question, its place among its n, and rounding in
            the engine's batches; without ``question`` in the observations on the number of calls and on the row.
        settings: how vLLM runs.
        dummy: start with random weights, for a sampler whose weights come with :meth:`update_weights`.

    Raises:
        AnatomyError: a number out of range, vLLM missing or of another version, a server that can't be reached.
    """

    def __init__(
        self,
        model: str | Path,
        *,
        temperature: Annotated[float, Range(0, 100)] = 0.0,
        top_p: Annotated[float, Range(0, 1, above=True)] = 1.0,
        max_new_tokens: Count | None = None,
        seed: Seed = 0,
        settings: VllmSettings | None = None,
        dummy: bool = False,
    ) -> None:
        if temperature < 0 or not 0 < top_p <= 1 or (max_new_tokens is not None and max_new_tokens < 1):
            raise AnatomyError(
                "sampling needs temperature ≥ 0, 0 < top_p ≤ 1 and max_new_tokens ≥ 1, "
                f"got {temperature}, {top_p}, {max_new_tokens}."
            )
        settings = settings or VllmSettings()
        self.backbone = skeleton(model)
        self.engine: Engine = (
            ServerEngine(settings) if settings.server else LocalEngine(str(model), settings, dummy=dummy)
        )
        self.name = str(model)
        self.temperature, self.top_p, self.seed = temperature, top_p, seed
        self.max_new_tokens: int = max_new_tokens or (64 if Path(model) in EMBEDDED.values() else 256)
        self.overlaps = bool(settings.server)
        """Whether it can sample while the trainer computes."""
        self._calls = 0
        self._compared = False

    def respond(self, observations: Observations, *, n: int = 1, only: Sequence[int] | None = None) -> list[Response]:
        """See :meth:`Policy.respond`. Rows with the same image object and prompt are one request.

        With ``only``, the responses of those places, the same as among all.

        Raises:
            PolicyLost: the engine died, or the server gives no answer.
            AnatomyError: vLLM reads other tokens out of image and prompt than the processor gives.
        """
        images, prompts = observations["image"], observations["prompt"]
        places: dict[tuple[Hashable, str], list[int]] = {}
        for place, (image, prompt) in enumerate(zip(images, prompts, strict=True)):
            places.setdefault((image_key(image), prompt), []).append(place)
        wanted = range(len(prompts)) if only is None else only
        asked = set(wanted)
        groups = [group for group in places.values() if asked.intersection(group)]
        seeds = self._seeds(observations.get("question_id"), groups)
        requests = [
            self._request(images[group[0]], prompts[group[0]], len(group) * n, seed)
            for group, seed in zip(groups, seeds, strict=True)
        ]
        answers = self.engine.generate(requests, self._sampling())
        if not self._compared:
            self._compare(requests, [prompts[group[0]] for group in groups], answers)
        responses: list[list[Response]] = [[] for _ in prompts]
        for group, answer in zip(groups, answers, strict=True):
            sampled = self._responses(answer, len(group) * n, opened_by(self.backbone.encode.render(prompts[group[0]])))
            for place in group:
                responses[place], sampled = sampled[:n], sampled[n:]
        return [response for place in wanted for response in responses[place]]

    def update_weights(self, model: nn.Module, state: dict[str, Tensor] | None = None) -> None:
        """Take over the weights of a trained model of the same architecture, adapters merged; wakes the engine.

        Args:
            model: whose weights.
            state: its weights, where they had to be gathered from several processes.

        Raises:
            AnatomyError: names or shapes don't match; they are listed.
            PolicyLost: the engine or server failed.
        """
        weights = CheckpointWeights(model, state, self.engine.dtype)
        check_names(weights.alike, self.backbone.model.state_dict(), self.name)
        self.engine.update(weights)

    def sleep(self) -> None:
        """Give memory back until the next :meth:`update_weights`."""
        self.engine.sleep()

    def special_tokens(self) -> list[str]:
        """Texts that its tokenizer takes for special tokens."""
        return self.backbone.special_tokens()

    def describe(self) -> dict[str, Any]:
        """What evaluations record of it."""
        sampling = {"temperature": self.temperature, "top_p": self.top_p, "max_new_tokens": self.max_new_tokens}
        return {"backend": "vllm", **self.engine.describe(), **sampling}

    def state_dict(self) -> dict[str, Any]:
        """Position in the sampling stream."""
        return {"calls": self._calls}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        self._calls = int(state["calls"])

    def _seeds(self, asked: Sequence[str] | None, groups: Sequence[Sequence[int]]) -> list[int]:
        """A seed per request: by the question where it is given, else by the call and the row."""
        if asked is not None:
            names = [asked[group[0]] for group in groups]
        else:
            names = [f"{self._calls}/{group[0]}" for group in groups]
            self._calls += 1
        return [crc32(f"{self.seed}/{name}".encode("utf-8", "replace")) & 0x3FFFFFFF for name in names]

    def _request(self, image: Image, prompt: str, n: int, seed: int) -> Request:
        # As the processor tokenises, but for the image's placeholder: vLLM expands it, and twice would be wrong.
        tokens = list(self.backbone.tokenizer(self.backbone.encode.render(prompt))["input_ids"])
        # Greedy answers are all alike, and vLLM gives one.
        return Request(tokens, image, n, seed) if self.temperature else Request(tokens, image, 1, None)

    def _sampling(self) -> dict[str, Any]:
        """vLLM's sampling parameters."""
        return {
            **_NEUTRAL,
            "temperature": self.temperature,
            "top_p": self.top_p,
            "max_tokens": self.max_new_tokens,
            "stop": [ANSWER_END],
            "stop_token_ids": list(self.backbone.eos),
            "logit_bias": dict.fromkeys(self.backbone.banned.tolist(), _FORBID),
            "logprobs": 0,
            "detokenize": True,
        }

    def _responses(self, answers: Answers, wanted: int, opened: str) -> list[Response]:
        samples = list(answers.samples) * (wanted // len(answers.samples))
        banned = set(self.backbone.banned.tolist())
        if any(not banned.isdisjoint(one.tokens) for one in answers.samples):
            raise AnatomyError(f"{self.name}: vLLM sampled an image or other special token although it was forbidden.")
        return [
            Response(
                with_opening(self.backbone.decode(one.tokens), opened),
                tuple(one.tokens),
                tuple(one.logprobs),
                truncated=one.finish_reason == "length",
            )
            for one in samples
        ]

    def _compare(self, requests: Sequence[Request], prompts: Sequence[str], answers: Sequence[Answers]) -> None:
        for request, prompt, answer in zip(requests, prompts, answers, strict=True):
            ours = self.backbone.encode(request.image, prompt).tokens.tolist()
            if list(answer.prompt) != ours:
                raise AnatomyError(
                    f"{self.name}: vLLM reads {len(answer.prompt)} tokens out of an image of {request.image.shape[:2]} "
                    f"pixels and its prompt, the processor gives {len(ours)}; they must be equal.\n"
                    "The engine must run the same processor, with the same limits on an image's size."
                )
        self._compared = True


def skeleton(path: str | Path) -> Backbone:
    """A backbone without weights: what must be known of a model to talk to an engine that has them.

    Raises:
        AnatomyError: not a model folder, nor a hub id that can be reached.
    """
    try:
        processor = load_processor(path)
        config = AutoConfig.from_pretrained(path)
        with torch.device("meta"):
            model = AutoModelForImageTextToText.from_config(config)
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise AnatomyError(
            f"{path}: can't be read as an image-text-to-text model ({' '.join(str(error).split())[:300]}).\n"
            "Expected a folder with config.json and a processor, or a hub id that can be reached."
        ) from None
    with contextlib.suppress(OSError):  # many folders have none; the tokenizer knows the end of a turn
        model.generation_config = GenerationConfig.from_pretrained(path)
    return Backbone(model, processor, str(path))
