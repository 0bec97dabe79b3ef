"""A vision-language model with its processor, and what must be known of both: ends, forbidden tokens, positions.

What differs between model families lives here; policies, SFT and GRPO are written against it.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor
from transformers import AutoConfig, AutoModelForImageTextToText, PreTrainedModel
from transformers.utils import logging as transformers_logging

from anatomy_r1.agents.configs import Attention, TowerAttention, base_of
from anatomy_r1.agents.model.adapters import add_adapters_of, has_adapters, load_adapters
from anatomy_r1.agents.model.processors import load_processor
from anatomy_r1.agents.model.prompt_encoder import PromptEncoder
from anatomy_r1.agents.model.skeletons import skeleton
from anatomy_r1.agents.model.tensors import disk_errors
from anatomy_r1.agents.model.vision_cache import Vision
from anatomy_r1.core import AnatomyError

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
        attention: how the decoder attends over trees; see ``ModelConfig``.
    """

    def __init__(
        self, model: PreTrainedModel, processor: Any, name: str = "model", attention: Attention = "auto"
    ) -> None:
        self.model = model
        self.processor = processor
        self.name = name
        if getattr(processor, "image_processor", None) is None or getattr(processor, "tokenizer", None) is None:
            raise AnatomyError(
                f"{name}: its processor ({type(processor).__name__}) has no image processor or no tokenizer.\n"
                "Expected a vision-language model with its preprocessor_config.json and its tokenizer."
            )
        self.tokenizer = processor.tokenizer
        if not getattr(processor, "chat_template", None):
            raise AnatomyError(f"{name}: its processor has no chat template; save one with the model, then try again.")
        pad, end = self.tokenizer.pad_token_id, self.tokenizer.eos_token_id
        self.pad_token: int = end if pad is None else pad
        self.attention = attention
        self.encode = PromptEncoder(processor)
        self.vision = Vision(model)
        self.eos = _end_tokens(model, self.tokenizer)
        self.banned = _banned_tokens(model, self.tokenizer, keep=self.eos)
        self._closes: Tensor | None = None

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        dtype: torch.dtype = torch.float32,
        device: str | torch.device = "cpu",
        trust_remote_code: bool = False,
        pixels: tuple[int, int] = (0, 0),
        attention: Attention = "auto",
        tower_attention: TowerAttention = "auto",
        weightless: bool = False,
    ) -> "Backbone":
        """Load a folder (of a model, or of adapters to one) or a hub id.

        Args:
            path: folder or hub id.
            dtype: of the weights.
            device: where they go.
            trust_remote_code: whether code that is shipped with the model may run.
            pixels: smallest and largest image that the processor may make; 0: its own limit.
            attention: of the decoder; see ``ModelConfig``.
            tower_attention: of the vision tower.
            weightless: leave the weights where they are; the model is on the meta device, for another process's.

        Raises:
            AnatomyError: not a model, a missing part, code of its own that may not run, weights that don't fit, or an
                attention that can't be had.
        """
        try:
            with _quietly():
                processor = load_processor(path, trust_remote_code=trust_remote_code, pixels=pixels)
                base = base_of(path)
                options: dict[str, Any] = {"dtype": dtype, "trust_remote_code": trust_remote_code}
                options |= attention_options(path, attention, tower_attention, trust_remote_code=trust_remote_code)
                report: dict[str, Any] = {"missing_keys": (), "mismatched_keys": ()}
                if weightless:
                    model = skeleton(base, **options)
                else:
                    model, report = AutoModelForImageTextToText.from_pretrained(
                        base, output_loading_info=True, **options
                    )
        except (OSError, ValueError, KeyError, ImportError, SafetensorError) as error:
            reason = " ".join(str(error).split())[:300]
            if "ttention" in reason and (attention, tower_attention) != ("auto", "auto"):
                raise AnatomyError(
                    f"{path}: can't be loaded with attention {attention}, tower attention {tower_attention} "
                    f"({reason}).\n"
                    "Use --model.attention auto and --model.tower-attention auto, or install what is missing."
                ) from None
            if "trust_remote_code" in str(error):
                raise AnatomyError(
                    f"{path}: this model brings code of its own, and nothing of it was run.\n"
                    "Read it; if you trust it, give --model.trust-remote-code (evaluate: --policy-options "
                    "trust_remote_code True)."
                ) from None
            raise AnatomyError(
                f"{path}: can't be loaded as an image-text-to-text model ({reason}).\n"
                "Expected a folder with config.json, weights and a processor, or a hub id that can be reached."
            ) from None
        if wrong := [*report["missing_keys"], *(key for key, *_ in report["mismatched_keys"])]:
            raise AnatomyError(f"{path}: {len(wrong)} weights are missing or misshapen, first {sorted(wrong)[0]!r}.")
        if base_of(path) != path:
            (add_adapters_of if weightless else load_adapters)(model, Path(path))
        return cls((model if weightless else model.to(device)).eval(), processor, str(path), attention)

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return torch.device(next(self.model.parameters()).device)

    def save(self, folder: Path, weights: dict[str, Tensor] | None = None) -> None:
        """Write model and processor as a transformers folder; of a model with adapters, the adapters alone.

        Args:
            folder: where.
            weights: those to write in place of the model's own, such as sharded ones that were gathered.
        """
        with _quietly(), disk_errors():
            self.model.save_pretrained(folder, state_dict=weights)
            self.processor.save_pretrained(folder)

    def save_skeleton(self, folder: Path) -> None:
        """Write what :meth:`save` writes but for the weights."""
        self.model.config.save_pretrained(folder)
        self.model.generation_config.save_pretrained(folder)
        self.processor.save_pretrained(folder)

    def read(self, folder: Path) -> dict[str, Tensor]:
        """Weights that :meth:`save` wrote, by the names they have in this model.

        Loaded by the way every model is loaded, so every name is checked: a loader that skips names it doesn't know
        would resume from random weights.
        """
        learnt = {weight.dtype for weight in self.model.parameters() if weight.requires_grad}
        # FSDP2 may hold in float32 what learns of a model in bfloat16.
        dtype = self.model.dtype if has_adapters(self.model) or len(learnt) > 1 else learnt.pop()
        return Backbone.load(folder, dtype=dtype).model.state_dict()  # type: ignore[no-any-return]

    def closes(self, tokens: Tensor) -> Tensor:
        """Which tokens hold a ``>`` and may so complete a closing tag; bool, of the tokens' shape."""
        if self._closes is None:
            pieces = self.tokenizer.convert_ids_to_tokens(list(range(len(self.tokenizer))))
            # Models may know more tokens than their tokenizer.
            self._closes = torch.zeros(self.model.get_output_embeddings().weight.shape[0], dtype=torch.bool)
            self._closes[: len(pieces)] = torch.tensor([piece is not None and ">" in piece for piece in pieces])
        return self._closes[tokens.cpu()]

    def special_tokens(self) -> list[str]:
        """Texts that the tokenizer takes for special tokens."""
        return special_tokens(self.tokenizer)

    def decode(self, tokens: Sequence[int]) -> str:
        """Text of sampled tokens, without special ones."""
        return str(self.tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False))


def attention_options(
    path: str | Path, decoder: Attention, tower: TowerAttention, *, trust_remote_code: bool
) -> dict[str, Any]:
    """What tells transformers how the parts of a model attend; nothing where it may choose.

    FlexAttention is for trees alone: prompts and samples go through SDPA.
    """
    if decoder == tower == "auto":
        return {}
    config = AutoConfig.from_pretrained(base_of(path), trust_remote_code=trust_remote_code)
    asked = {part: decoder if part == "text_config" else tower for part in config.sub_configs}
    named = {part: "sdpa" if kind == "flex" else kind for part, kind in asked.items() if kind != "auto"}
    return {"attn_implementation": named}


def special_tokens(tokenizer: Any) -> list[str]:
    """Texts that a tokenizer takes for special tokens."""
    added = (meta.content for meta in tokenizer.added_tokens_decoder.values() if meta.special)
    return sorted({*added, *tokenizer.all_special_tokens})


@contextmanager
def _quietly() -> Iterator[None]:
    """Keep transformers' own progress bars out of ours, and what it has to say to its developers off the terminal."""
    bars, level = transformers_logging.is_progress_bar_enabled(), transformers_logging.get_verbosity()
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(level)
        if bars:
            transformers_logging.enable_progress_bar()


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
