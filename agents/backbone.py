"""A vision-language model with its processor, and what must be known of both: ends, forbidden tokens, positions.

What differs between model families lives here; policies, SFT and GRPO are written against it.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForImageTextToText, PreTrainedModel
from transformers.utils import logging as transformers_logging

from anatomy_r1.agents.adapters import base_of, load_adapters
from anatomy_r1.agents.processors import load_processor
from anatomy_r1.agents.prompts import PromptEncoder
from anatomy_r1.agents.tree import Tree, ancestor_mask
from anatomy_r1.banks import AnatomyError

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
        self.name = name
        if getattr(processor, "image_processor", None) is None or getattr(processor, "tokenizer", None) is None:
            raise AnatomyError(
                f"{name}: its processor ({type(processor).__name__}) has no image processor or no tokenizer.\n"
                "Expected a vision-language model with its preprocessor_config.json and its tokenizer."
            )
        self.tokenizer = processor.tokenizer
        if not getattr(processor, "chat_template", None):
            raise AnatomyError(f"{name}: its processor has no chat template; save one with the model, then try again.")
        if self.tokenizer.pad_token_id is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token
        self.pad_token: int = self.tokenizer.pad_token_id
        self.encode = PromptEncoder(processor)
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
    ) -> "Backbone":
        """Load a folder (of a model, or of adapters to one) or a hub id.

        Args:
            path: folder or hub id.
            dtype: of the weights.
            device: where they go.
            trust_remote_code: whether code that is shipped with the model may run.
            pixels: smallest and largest image that the processor may make; 0: its own limit.

        Raises:
            AnatomyError: not a model, a missing part, code of its own that may not run, or weights that don't fit.
        """
        try:
            with _no_bars():
                processor = load_processor(path, trust_remote_code=trust_remote_code, pixels=pixels)
                model, report = AutoModelForImageTextToText.from_pretrained(
                    base_of(path), dtype=dtype, output_loading_info=True, trust_remote_code=trust_remote_code
                )
        except (OSError, ValueError, KeyError, ImportError) as error:
            reason = " ".join(str(error).split())[:300]
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
            load_adapters(model, Path(path))
        return cls(model.to(device).eval(), processor, str(path))

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
        with _no_bars():
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
        return Backbone.load(folder, dtype=self.model.dtype).model.state_dict()  # type: ignore[no-any-return]

    def positions(self, tree: Tree) -> Tensor:
        """Position ids of a tree's nodes, ``(N,)``, or ``(3, N)`` for a model with positions in time, height, width."""
        depths = torch.from_numpy(tree.depths)
        index = getattr(self.model.base_model, "get_rope_index", None)
        if index is None:
            return depths
        positions = torch.zeros(3, len(tree), dtype=torch.long)
        for number, prompt in enumerate(tree.prompts):
            own, delta = index(
                input_ids=prompt.tokens[None],
                **{name: value[None] for name, value in prompt.per_token.items()},
                **{name: value for name, value in prompt.per_image.items() if name.endswith("grid_thw")},
                attention_mask=torch.ones_like(prompt.tokens)[None],
            )
            nodes = torch.from_numpy(tree.prompt_of == number)
            inside = depths < len(prompt.tokens)
            positions[:, nodes & inside] = own[:, 0, depths[nodes & inside]].cpu()
            # Text behind the prompt counts on from its last position, on all axes alike.
            positions[:, nodes & ~inside] = depths[nodes & ~inside] + int(delta)
        return positions

    def closes(self, tokens: Tensor) -> Tensor:
        """Which tokens hold a ``>`` and may so complete a closing tag; bool, of the tokens' shape."""
        if self._closes is None:
            pieces = self.tokenizer.convert_ids_to_tokens(list(range(len(self.tokenizer))))
            self._closes = torch.tensor([piece is not None and ">" in piece for piece in pieces])
        return self._closes[tokens.cpu()]

    def decode(self, tokens: Sequence[int]) -> str:
        """Text of sampled tokens, without special ones."""
        return str(self.tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False))

    def no_tree(self) -> str | None:
        """Why this model can't run trees; None where it can."""
        kinds = set(getattr(self.model.config.get_text_config(), "layer_types", None) or ()) - {
            "full_attention",
            "sliding_attention",
        }
        if kinds:
            return f"its {', '.join(sorted(kinds))} layers have no attention mask that could hold a tree"
        if "flash" in str(self.model.config._attn_implementation):
            return "flash attention takes no mask of its own; load the model with attn_implementation='sdpa'"
        return None

    def attention_mask(self, trees: Sequence[Tree], width: int) -> Tensor | dict[str, Tensor]:
        """Mask ``(B, 1, width, width)`` of trees, or one per kind of layer for a model with sliding windows."""
        mask = ancestor_mask(trees, width)
        text = self.model.config.get_text_config()
        window = getattr(text, "sliding_window", None)
        if "sliding_attention" not in (getattr(text, "layer_types", None) or ()) or window is None:
            return mask
        sliding = mask.clone()
        for row, tree in enumerate(trees):
            size, depths = len(tree), torch.from_numpy(tree.depths)
            sliding[row, 0, :size, :size] &= depths[:, None] - depths < window
            if "token_type_ids" in tree.prompts[0].per_token:  # Gemma 3: the tokens of an image see each other
                image = torch.from_numpy(tree.per_token("token_type_ids") == 1)
                for kind in (mask, sliding):
                    kind[row, 0, :size, :size] |= image[:, None] & image
        return {"full_attention": mask, "sliding_attention": sliding}


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
