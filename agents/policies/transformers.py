"""A transformers vision-language model as a policy: prefill each prompt once, decode all its responses together."""

from collections.abc import Hashable, Sequence
from inspect import signature
from pathlib import Path
from typing import Annotated, Any
from zlib import crc32

import numpy as np
import torch
from torch import Tensor

from anatomy_r1.agents.logprobs import tempered_log_softmax
from anatomy_r1.agents.model import ANSWER_END, Backbone, collate, size_defaults
from anatomy_r1.agents.policies.protocol import Observations, Response, with_opening
from anatomy_r1.core import AnatomyError, Count, Range, Seed, image_key

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
        batch_size: prompts sampled at once.
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
        self.seed, self.batch_size = seed, batch_size
        self._calls = 0

    def respond(self, observations: Observations, *, n: int = 1, only: Sequence[int] | None = None) -> list[Response]:
        """See :meth:`Policy.respond`. Rows with the same image object and prompt share one prefill.

        With ``only``, some rows are answered, just as they would be among all.
        """
        images, prompts = observations["image"], observations["prompt"]
        rows = [(image_key(image), prompt) for image, prompt in zip(images, prompts, strict=True)]
        draws = self._draws(observations.get("question_id"), len(rows), n)
        only = range(len(rows)) if only is None else only
        places: dict[tuple[Hashable, str], list[int]] = {}
        for place in only:
            places.setdefault(rows[place], []).append(place)
        responses: list[list[Response]] = [[] for _ in rows]
        groups = list(places.values())
        for start in range(0, len(groups), self.batch_size):
            batch = groups[start : start + self.batch_size]
            firsts = [group[0] for group in batch]
            sampled = self._sample(
                [images[i] for i in firsts],
                [prompts[i] for i in firsts],
                [len(group) * n for group in batch],
                np.concatenate([draws[group].reshape(-1, self.max_new_tokens) for group in batch]),
            )
            for group in batch:
                for place in group:
                    responses[place], sampled = sampled[:n], sampled[n:]
        return [response for place in only for response in responses[place]]

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
            "image": {name: str(value) for name, value in limits.items() if value is not None},
        }

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
        model, was_training = self.backbone.model, self.backbone.model.training
        model.eval()
        encoded = [self.backbone.encode(*pair) for pair in zip(images, prompts, strict=True)]
        inputs = collate(encoded, self.backbone.pad_token, side="left")
        inputs = {name: value.to(self.backbone.device) for name, value in inputs.items()}
        out = model(**self.backbone.vision.look(inputs, encoded), use_cache=True, logits_to_keep=1)
        owner = torch.repeat_interleave(torch.tensor(counts)).to(self.backbone.device)
        kept = kept_as(model)
        cache = getattr(out, kept)
        cache.batch_select_indices(owner)
        decoder = _Decoder(self.backbone, self.temperature, self.top_p, draws)
        mask, logits = inputs["attention_mask"][owner], out.logits[owner, -1]
        deltas = getattr(model.base_model, "rope_deltas", None)
        deltas = None if deltas is None else deltas[owner]
        for step in range(self.max_new_tokens):
            token, going = decoder.take(logits, step)
            if step + 1 == self.max_new_tokens or not going.any():
                break
            if not going.all():
                going = going.to(mask.device)
                cache.batch_select_indices(going.nonzero().squeeze(1))
                mask, token, deltas = mask[going], token[going], None if deltas is None else deltas[going]
            mask = torch.cat([mask, mask.new_ones(len(mask), 1)], dim=1)
            out = model(
                input_ids=token[:, None],
                attention_mask=mask,
                use_cache=True,
                logits_to_keep=1,
                **{kept: cache},
                **_positions(mask, deltas),
            )
            logits = out.logits[:, -1]
        model.train(was_training)
        return decoder.responses([encoded[place].opened for place in owner.tolist()])


def kept_as(model: Any) -> str:
    """What a model's forward calls its cache: `past_key_values` before transformers 5.24."""
    return "cache" if "cache" in signature(model.forward).parameters else "past_key_values"


class _Decoder:
    """The rows being decoded: chooses tokens, and drops a row once it has answered."""

    def __init__(self, backbone: Backbone, temperature: float, top_p: float, draws: np.ndarray) -> None:
        self.backbone, self.temperature, self.top_p = backbone, temperature, top_p
        self.draws = torch.from_numpy(draws)
        self.rows = torch.arange(len(draws))
        self.tokens: list[list[int]] = [[] for _ in draws]
        self.logprobs: list[list[float]] = [[] for _ in draws]
        self.done = [False] * len(draws)
        self.broken: set[int] = set()

    def take(self, logits: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """Choose the next token of each running row.

        Returns:
            the tokens ``(rows,)`` and which of these rows go on, bool ``(rows,)``.
        """
        logprobs = tempered_log_softmax(logits, self.backbone.banned, self.temperature or 1.0)
        broken = logprobs[:, 0].isnan()  # one such logit makes a row's log-probs NaN throughout
        token = self._choose(logprobs, self.draws[self.rows, step]).masked_fill(broken, 0)
        chosen = logprobs.gather(-1, token[:, None]).squeeze(1).tolist()
        closing, going = self.backbone.closes(token), ~broken.cpu()
        self.broken.update(self.rows[~going].tolist())
        for i, (row, new) in enumerate(zip(self.rows.tolist(), token.tolist(), strict=True)):
            self.tokens[row].append(new)
            self.logprobs[row].append(chosen[i])
            if new in self.backbone.eos or (
                closing[i] and self.backbone.decode(self.tokens[row][-12:]).rstrip().endswith(ANSWER_END)
            ):
                self.done[row], going[i] = True, False
        self.rows = self.rows[going]
        return token, going

    def _choose(self, logprobs: Tensor, draws: Tensor) -> Tensor:
        if self.temperature == 0:
            return logprobs.argmax(-1)
        probabilities = logprobs.double().exp()
        if self.top_p < 1:
            probabilities = _nucleus(probabilities, self.top_p)
        # Inverse of the cumulative distribution: a row's token depends on its own draw alone, not on its batch.
        totals = probabilities.cumsum(-1)
        return torch.searchsorted(totals, draws.to(totals)[:, None] * totals[:, -1:], right=True).squeeze(1)

    def responses(self, opened: Sequence[str]) -> list[Response]:
        """What was sampled, row by row, behind what each row's prompt ``opened``."""
        texts = [with_opening(*pair) for pair in zip(map(self.backbone.decode, self.tokens), opened, strict=True)]
        return [
            Response(texts[row], tuple(tokens), tuple(logprobs), truncated=not self.done[row])
            if row not in self.broken
            else Response("", failed="the model's logits are not finite")
            for row, (tokens, logprobs) in enumerate(zip(self.tokens, self.logprobs, strict=True))
        ]


def _positions(mask: Tensor, deltas: Tensor | None) -> dict[str, Tensor]:
    """Positions of the newest tokens, for models with positions on three axes: these leave them to their caller."""
    return {} if deltas is None else {"position_ids": (mask.sum(1, keepdim=True) - 1 + deltas).expand(3, -1, -1)}


def _nucleus(probabilities: Tensor, top_p: float) -> Tensor:
    """Zero all but the smallest set of tokens that holds ``top_p`` of the mass (arXiv 1904.09751)."""
    ordered, order = probabilities.sort(-1, descending=True)
    outside = ordered.cumsum(-1) - ordered >= top_p
    return probabilities.masked_fill(torch.zeros_like(outside).scatter(-1, order, outside), 0)
