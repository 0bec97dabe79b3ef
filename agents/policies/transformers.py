"""A transformers vision-language model as a policy: prefill each prompt once, decode all its responses together."""

import warnings
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Annotated, Any
from zlib import crc32

import numpy as np
import torch

from anatomy_r1.agents.configs import Decode
from anatomy_r1.agents.model import Backbone, collate, held_adapters, onto, size_defaults
from anatomy_r1.agents.policies.decoders import (
    Decoder,
    DynamicDecoder,
    Prefilled,
    StaticDecoder,
    alone_on_device,
    is_plain,
    kept_as,
    why_dynamic,
)
from anatomy_r1.agents.policies.decoding import Chooser, Rows
from anatomy_r1.agents.policies.protocol import Observations, Response
from anatomy_r1.core import AnatomyError, Count, Natural, Range, Seed, image_key

STRIDES = {"cpu": 1}
"""Steps between two looks at which rows have ended, by the kind of device; 8 where looking means waiting."""
Group = list[tuple[int, int]]
"""Rows with the same image and prompt: their places among the observations, and which of the responses there."""
_STREAM = 41


class TransformersPolicy:
    """Any image-text-to-text transformers model, sampled with its chat template.

    Args:
        model: folder, hub id, or a loaded :class:`Backbone`.
        temperature: 0 decodes greedily.
        top_p: share of probability mass to sample from. Log-probs are those of the full distribution, so keep 1 for
            training.
        max_new_tokens: responses are cut there and marked ``truncated``; None: 64, or by the model's size 256.
        seed: of the sampling stream; responses depend on it and on the question alone where observations have
            ``question``, else on it, on the number of calls so far and on the row.
        batch_size: distinct prompts sampled at once; halved where the device runs out of memory.
        rows: responses sampled at once, halved likewise; 0: all those to these prompts.
        decode: ``static``: keys and values in buffers of fixed length, on CUDA with captured steps; ``dynamic``: in a
            cache that grows; ``auto``: static where the model is served so.
        device: where a model that is loaded goes; None: a GPU if there is one.
        trust_remote_code: whether code that is shipped with a model may run.
    """

    def __init__(
        self,
        model: str | Path | Backbone,
        *,
        temperature: Annotated[float, Range(0, 100)] = 0.0,
        top_p: Annotated[float, Range(0, 1, above=True)] = 1.0,
        max_new_tokens: Count | None = None,
        seed: Seed = 0,
        batch_size: Count = 64,
        rows: Natural = 0,
        decode: Decode = "auto",
        device: str | None = None,
        trust_remote_code: bool = False,
    ) -> None:
        if temperature < 0 or not 0 < top_p <= 1 or (max_new_tokens is not None and max_new_tokens < 1):
            raise AnatomyError(
                "sampling needs temperature ≥ 0, 0 < top_p ≤ 1 and max_new_tokens ≥ 1, "
                f"got {temperature}, {top_p}, {max_new_tokens}."
            )
        if isinstance(model, Backbone):
            self.backbone = model
        else:
            on = device or ("cuda" if torch.cuda.is_available() else "cpu")
            dtype = torch.bfloat16 if on.startswith("cuda") else torch.float32
            self.backbone = Backbone.load(model, dtype=dtype, device=on, trust_remote_code=trust_remote_code)
        self.name = self.backbone.name
        self.temperature, self.top_p = temperature, top_p
        self.max_new_tokens = max_new_tokens or max(64, size_defaults(self.backbone.model).completion_length)
        self.seed, self.batch_size, self.rows, self.decode = seed, batch_size, rows, decode
        self.why_dynamic, self.uncaptured = why_dynamic(self.backbone.model), ""
        self._calls = 0

    def respond(self, observations: Observations, *, n: int = 1, only: Sequence[int] | None = None) -> list[Response]:
        """See :meth:`Policy.respond`. Rows with the same image object and prompt share one prefill.

        With ``only``, some rows are answered, just as they would be among all.

        Raises:
            AnatomyError: the device has no memory for a single row.
        """
        images, prompts = observations["image"], observations["prompt"]
        keys = [(image_key(image), prompt) for image, prompt in zip(images, prompts, strict=True)]
        draws = self._draws(observations.get("question_id"), len(keys), n)
        only = range(len(keys)) if only is None else only
        places: dict[tuple[Hashable, str], list[int]] = {}
        for place in only:
            places.setdefault(keys[place], []).append(place)
        waiting = [[(place, i) for place in group for i in range(n)] for group in places.values()]
        responses: dict[tuple[int, int], Response] = {}
        was_training = self.backbone.model.training
        self.backbone.model.eval()
        while waiting:
            batch, rest = self._divide(waiting)
            firsts, rows = [group[0][0] for group in batch], [row for group in batch for row in group]
            try:
                with held_adapters(self.backbone.model):
                    sampled = self._sample(
                        [images[i] for i in firsts],
                        [prompts[i] for i in firsts],
                        [len(group) for group in batch],
                        np.stack([draws[row] for row in rows]),
                    )
            except torch.OutOfMemoryError:
                sampled = None
            if sampled is None:  # and not above, where the error still holds what there was
                self._halve(len(batch), len(rows))
            else:
                responses.update(zip(rows, sampled, strict=True))
                waiting = rest
        self.backbone.model.train(was_training)
        return [responses[place, i] for place in only for i in range(n)]

    def _divide(self, waiting: list[Group]) -> tuple[list[Group], list[Group]]:
        """The next batch of groups of rows, each with one prompt; and what is left for later ones."""
        batch: list[Group] = []
        room = self.rows or sum(map(len, waiting))
        for number, group in enumerate(waiting):
            if number == self.batch_size or not room:
                return batch, waiting[number:]
            batch.append(group[:room])
            if len(group) > room:
                return batch, [group[room:], *waiting[number + 1 :]]
            room -= len(group)
        return batch, []

    def _halve(self, prompts: int, rows: int) -> None:
        """Sample less at once after the device ran out of memory with so many prompts and rows."""
        if rows == 1:
            raise AnatomyError(
                f"{self.name}: the device is out of memory with one response at a time.\n"
                "Use smaller images, a lower max-completion-length (max_new_tokens), or a smaller model."
            )
        torch.cuda.empty_cache()
        self.batch_size, self.rows = max(1, prompts // 2), rows // 2
        warnings.warn(
            f"out of memory while sampling: prompts at once are now {self.batch_size}, responses {self.rows}; again.",
            stacklevel=3,
        )

    def special_tokens(self) -> list[str]:
        """Texts that its tokenizer takes for special tokens."""
        return self.backbone.special_tokens()

    def describe(self) -> dict[str, Any]:
        """What evaluations record of it."""
        model, images = self.backbone.model, getattr(self.backbone.processor, "image_processor", None)
        limits = {name: getattr(images, name, None) for name in ("size", "min_pixels", "max_pixels", "do_resize")}
        return {
            "backend": "transformers",
            "dtype": str(model.dtype),
            "device": str(model.device),
            "temperature": self.temperature,
            "top_p": self.top_p,
            "max_new_tokens": self.max_new_tokens,
            "decode": self._decode_told(),
            "image": {name: str(value) for name, value in limits.items() if value is not None},
        }

    def _decode_told(self) -> str:
        if self.why_dynamic:
            return f"dynamic: {self.why_dynamic}"
        if self.decode == "dynamic":
            return "dynamic"
        if self.uncaptured:
            return f"static, not captured as CUDA graphs: {self.uncaptured}"
        return "static, captured" if self.backbone.device.type == "cuda" else "static"

    def state_dict(self) -> dict[str, Any]:
        """Position in the sampling stream."""
        return {"calls": self._calls}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        self._calls = int(state["calls"])

    def _draws(self, names: Sequence[str] | None, rows: int, n: int) -> np.ndarray:
        """Uniform draws ``(rows, n, max_new_tokens)``: by the question where it is given, else by the call."""
        if names is None:
            rng = np.random.default_rng([self.seed, _STREAM, self._calls])
            self._calls += 1
            return rng.random((rows, n, self.max_new_tokens))
        seeds = ([self.seed, _STREAM + 1, crc32(name.encode("utf-8", "replace"))] for name in names)
        return np.stack([np.random.default_rng(seed).random((n, self.max_new_tokens)) for seed in seeds])

    @torch.no_grad()
    def _sample(
        self, images: Sequence[Any], prompts: Sequence[str], counts: Sequence[int], draws: np.ndarray
    ) -> list[Response]:
        """Sample ``counts[i]`` responses to prompt i; ``draws`` ``(sum(counts), max_new_tokens)`` in [0, 1)."""
        backbone, device = self.backbone, self.backbone.device
        encoded = [backbone.encode(*pair) for pair in zip(images, prompts, strict=True)]
        inputs = collate(encoded, backbone.pad_token, side="left")
        inputs = {name: onto(value, device) for name, value in inputs.items()}
        out = backbone.model(**backbone.vision.look(inputs, encoded), use_cache=True, logits_to_keep=1)
        owner = torch.repeat_interleave(torch.tensor(counts))
        filled = Prefilled(
            model=backbone.model,
            cache=getattr(out, kept_as(backbone.model)),
            owner=onto(owner, device),
            mask=inputs["attention_mask"],
            logits=out.logits[:, -1],
            draws=onto(torch.from_numpy(draws), device),
        )
        decoder, rows, left = self._decoder(filled), Rows(backbone, len(draws)), self.max_new_tokens
        stride, going = STRIDES.get(device.type, 8), True
        while going and left:
            steps = min(stride, left)
            left, going = left - steps, rows.take(*decoder.advance(steps))
            if going and left:
                rows.slots = decoder.keep(rows.slots)
        if decoder.uncaptured:
            self.uncaptured = decoder.uncaptured
            warnings.warn(f"{self.name}: sampling is slower than it could be, {self._decode_told()}.", stacklevel=3)
        return rows.responses([encoded[place].opened for place in owner.tolist()])

    def _decoder(self, filled: Prefilled) -> Decoder:
        """Static where the model is served so, unless the other way was asked for."""
        choose = Chooser(self.backbone.banned.to(filled.mask.device), self.temperature, self.top_p)
        reason = self.why_dynamic or (None if is_plain(filled.cache) else "its cache holds more than keys and values")
        if reason and self.decode == "static":
            raise AnatomyError(f"{self.name}: can't be decoded with a static cache ({reason}); leave decode at auto.")
        if reason or self.decode == "dynamic":
            self.why_dynamic = reason
            return DynamicDecoder(filled, choose)
        return StaticDecoder(filled, choose, captured=not self.uncaptured and alone_on_device(filled.mask.device))
