"""A vision-language model with its processor: prompts in, padded model inputs and token log-probs out.

Everything that knows how a model family is called lives here; policies, SFT and GRPO are written against it.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import AutoModelForImageTextToText, AutoProcessor, PreTrainedModel
from transformers.utils import logging as transformers_logging

from anatomy_r1.banks import AnatomyError, Image

ANSWER_END = "</answer>"
_VISION_TOKENS = (
    "image_token_id",
    "video_token_id",
    "vision_start_token_id",
    "vision_end_token_id",
    "image_token_index",
)


class Backbone:
    """Model, processor, and what must be known of both.

    Args:
        model: an image-text-to-text transformers model.
        processor: its processor, with a chat template and an image processor.
        name: how messages and reports call it.
    """

    def __init__(self, model: PreTrainedModel, processor: Any, name: str = "model") -> None:
        self.model = model
        self.processor = processor
        self.tokenizer = processor.tokenizer
        self.name = name
        if not getattr(processor, "chat_template", None):
            raise AnatomyError(f"{name}: its processor has no chat template; save one with the model, then try again.")
        if self.tokenizer.pad_token_id is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token
        self.eos = _end_tokens(model, self.tokenizer)
        self.banned = _banned_tokens(model, self.tokenizer, keep=self.eos)
        self._closes: Tensor | None = None

    @classmethod
    def load(
        cls, path: str | Path, *, dtype: torch.dtype = torch.float32, device: str | torch.device = "cpu"
    ) -> "Backbone":
        """Load a folder or a hub id. Code shipped with a model is never run.

        Raises:
            AnatomyError: not a model, a missing part, or weights that don't fit the architecture.
        """
        try:
            with _no_bars():
                processor = AutoProcessor.from_pretrained(path)
                model, report = AutoModelForImageTextToText.from_pretrained(path, dtype=dtype, output_loading_info=True)
        except (OSError, ValueError, KeyError, ImportError) as error:
            reason = " ".join(str(error).split())[:300]
            raise AnatomyError(
                f"{path}: can't be loaded as an image-text-to-text model ({reason}).\n"
                "Expected a folder with config.json, weights and a processor, or a hub id that can be reached."
            ) from None
        if wrong := [*report["missing_keys"], *(key for key, *_ in report["mismatched_keys"])]:
            raise AnatomyError(f"{path}: {len(wrong)} weights are missing or misshapen, first {sorted(wrong)[0]!r}.")
        return cls(model.to(device).eval(), processor, str(path))

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return torch.device(next(self.model.parameters()).device)

    def save(self, folder: Path) -> None:
        """Write model and processor as a transformers folder."""
        with _no_bars():
            self.model.save_pretrained(folder)
            self.processor.save_pretrained(folder)

    def render(self, prompt: str) -> str:
        """The chat text of a prompt: image, prompt, then the model's turn."""
        content = [{"type": "image"}, {"type": "text", "text": prompt}]
        return str(
            self.processor.apply_chat_template(
                [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False
            )
        )

    def encode(self, images: Sequence[Image], prompts: Sequence[str], *, padding_side: str) -> dict[str, Tensor]:
        """Model inputs of B prompts, one image each, on the model's device; token tensors are ``(B, P)``."""
        encoded = self.processor(
            text=[self.render(prompt) for prompt in prompts],
            images=[[np.ascontiguousarray(image)] for image in images],
            padding=True,
            padding_side=padding_side,
            return_tensors="pt",
        )
        return {name: value.to(self.device) for name, value in encoded.items()}

    def closes(self, tokens: Tensor) -> Tensor:
        """Which tokens hold a ``>`` and may so complete a closing tag; bool, of the tokens' shape."""
        if self._closes is None:
            pieces = self.tokenizer.convert_ids_to_tokens(list(range(len(self.tokenizer))))
            self._closes = torch.tensor([piece is not None and ">" in piece for piece in pieces])
        return self._closes[tokens.cpu()]

    def decode(self, tokens: Sequence[int]) -> str:
        """Text of sampled tokens, without special ones."""
        return str(self.tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False))

    def log_softmax(self, logits: Tensor, temperature: float) -> Tensor:
        """Log-probs ``(…, V)``, float32, of the sampling distribution: tempered, vision and special tokens forbidden.

        Forbidden in the training softmax too: forbidding them in the sampler alone shifts every log-prob.
        """
        logits = logits.float()
        if temperature != 1:
            logits = logits / temperature
        banned = self.banned.to(logits.device)
        return logits.index_fill(-1, banned, float("-inf")).log_softmax(-1)


class ResponseScorer(nn.Module):
    """Log-probs of given responses: the module that training steps run, one padded row per response."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.model: Any = backbone.model
        self._backbone = (backbone,)  # in a tuple, so that it is no submodule

    def forward(
        self, images: Sequence[Image], prompts: Sequence[str], responses: Sequence[Sequence[int]], temperature: float
    ) -> tuple[Tensor, Tensor]:
        """Score B responses of up to R tokens.

        Returns:
            log-probs ``(B, R)`` of the responses' tokens and entropies ``(B, R)`` in nats; 0 beyond a response's end.
        """
        backbone = self._backbone[0]
        inputs = backbone.encode(images, prompts, padding_side="right")
        starts = inputs["attention_mask"].sum(1)
        inputs = _append(inputs, starts, responses, backbone.tokenizer.pad_token_id)
        hidden = self.model.base_model(**inputs, use_cache=False).last_hidden_state
        longest = max(map(len, responses))
        steps = torch.arange(longest, device=starts.device)
        lengths = torch.tensor([len(tokens) for tokens in responses], device=starts.device)
        real = steps < lengths[:, None]
        # A token is predicted at the position before its own.
        positions = (starts[:, None] + steps - 1).clamp(max=hidden.shape[1] - 1)
        rows = torch.arange(len(responses), device=starts.device)[:, None]
        targets = inputs["input_ids"][rows, (positions + 1).clamp(max=hidden.shape[1] - 1)][real]
        logprobs = backbone.log_softmax(self.model.get_output_embeddings()(hidden[rows, positions][real]), temperature)
        chosen = logprobs.gather(-1, targets[:, None]).squeeze(-1)
        entropy = torch.special.entr(logprobs.detach().exp()).sum(-1)
        empty = torch.zeros(real.shape, dtype=torch.float32, device=starts.device)
        return empty.masked_scatter(real, chosen), empty.masked_scatter(real, entropy)


@contextmanager
def _no_bars() -> Iterator[None]:
    """Keep transformers' own progress bars out of ours."""
    bars = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if bars:
            transformers_logging.enable_progress_bar()


def _append(
    inputs: dict[str, Tensor], starts: Tensor, responses: Sequence[Sequence[int]], pad: int
) -> dict[str, Tensor]:
    """Put each response right behind its prompt, in all tensors that have one value per token."""
    tokens, shape = inputs["input_ids"], inputs["input_ids"].shape
    width = max(int(start) + len(response) for start, response in zip(starts, responses, strict=True))
    grown = {}
    for name, value in inputs.items():
        if value.shape != shape:
            grown[name] = value
            continue
        fill = pad if name == "input_ids" else 0
        grown[name] = value.new_full((len(tokens), width), fill)
        kept = min(width, shape[1])
        grown[name][:, :kept] = value[:, :kept]
    for row, (start, response) in enumerate(zip(starts.tolist(), responses, strict=True)):
        grown["input_ids"][row, start : start + len(response)] = torch.tensor(response, device=tokens.device)
        grown["attention_mask"][row, start : start + len(response)] = 1
    return grown


def _end_tokens(model: Any, tokenizer: Any) -> tuple[int, ...]:
    ends = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    ends = ends if isinstance(ends, list) else [ends]
    return tuple(sorted({token for token in [*ends, tokenizer.eos_token_id] if token is not None}))


def _banned_tokens(model: Any, tokenizer: Any, keep: Sequence[int]) -> Tensor:
    """Special and vision tokens: a policy that emits one crashes the next forward pass."""
    config = getattr(model, "config", None)
    vision = (getattr(config, name, None) for name in _VISION_TOKENS)
    added = (token for token, meta in tokenizer.added_tokens_decoder.items() if meta.special)
    size = model.get_output_embeddings().weight.shape[0]
    banned = {*added, *tokenizer.all_special_ids, *(token for token in vision if token is not None)} - set(keep)
    return torch.tensor(sorted(token for token in banned if 0 <= token < size), dtype=torch.long)
