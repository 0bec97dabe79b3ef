"""Prompts as model inputs: each image preprocessed once, each (image, prompt) tokenised once.

An image's placeholders are expanded by the model's own processor, so token ids are those every other user of the
processor gets; the image processor inside it is asked once per distinct image.
"""

from collections import OrderedDict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from anatomy_r1.agents.model.compat import image_processor
from anatomy_r1.core import Image, image_key

CACHE_BYTES, CACHE_IMAGES = 1 << 30, 1024
"""The most that is remembered: large images by their bytes, small ones by their number."""
THINK = "<think>"


@dataclass(frozen=True, eq=False)
class EncodedPrompt:
    """One image and one prompt, on the CPU."""

    image: Image
    """The array that was encoded; prompts of the same array share what comes before the text."""
    tokens: Tensor
    """``(P,)``, image placeholders expanded."""
    per_token: Mapping[str, Tensor]
    """Other inputs with a value per token, ``(P,)`` each, such as ``mm_token_type_ids``."""
    per_image: Mapping[str, Tensor]
    """Inputs that belong to the image, such as ``pixel_values``; the first dimension may be joined."""
    opened: str = ""
    """What the chat template has begun of the response; see :func:`opened_by`."""


@dataclass(eq=False)
class _Known:
    """An image that was encoded before."""

    image: Image
    processed: Any = None
    """What the image processor gave."""
    prompts: dict[str, EncodedPrompt] = field(default_factory=dict)

    @property
    def nbytes(self) -> int:
        return self.image.nbytes + sum(
            value.nbytes for value in self.processed.values() if isinstance(value, Tensor | np.ndarray)
        )


class PromptEncoder:
    """Encodes prompts with a processor; remembers the newest images and their prompts, within bounds."""

    def __init__(self, processor: Any) -> None:
        self.processor = processor
        self._known: OrderedDict[Hashable, _Known] = OrderedDict()
        self._bytes = 0
        self.images_processed = 0
        """How often the image processor ran."""

    def __call__(self, image: Image, prompt: str) -> EncodedPrompt:
        """Encode one image and one prompt."""
        known = self._known.get(image_key(image))
        if known is None or known.image is not image:
            known = _Known(image)
        if prompt not in known.prompts:
            known.prompts[prompt] = self._encode(known, prompt)
        return known.prompts[prompt]

    def problem(self, image: Image, prompt: str) -> str | None:
        """Why the model can't take an image and a prompt, in a line; None where it can."""
        try:
            self(image, prompt)
        except Exception as error:  # processors raise what they like
            height, width = image.shape[:2]
            reason = " ".join(str(error).split())[:200]
            return f"the model's processor refuses its image of {width} × {height} pixels ({reason})."
        return None

    def render(self, prompt: str) -> str:
        """The chat text of a prompt: image, prompt, then the model's turn."""
        content = [{"type": "image"}, {"type": "text", "text": prompt}]
        messages = [{"role": "user", "content": content}]
        return str(self.processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=False))

    def _encode(self, known: _Known, prompt: str) -> EncodedPrompt:
        text = self.render(prompt)
        with image_processor(self.processor, _Remembering(self, self.processor.image_processor, known)):
            encoded = self.processor(text=[text], images=[[known.image]], return_tensors="pt")
        tokens = encoded.pop("input_ids")
        encoded.pop("attention_mask", None)
        per_token = {name: value[0] for name, value in encoded.items() if value.shape == tokens.shape}
        per_image = {name: value for name, value in encoded.items() if value.shape != tokens.shape}
        return EncodedPrompt(known.image, tokens[0], per_token, per_image, opened_by(text))

    def processed(self, original: Any, known: _Known, images: Any, options: dict[str, Any]) -> Any:
        """What the image processor gives for an image; it runs once for each."""
        if known.processed is None:
            self.images_processed += 1
            known.processed = original(images, **options)
            self._known[image_key(known.image)] = known
            self._bytes += known.nbytes
            while len(self._known) > 1 and (self._bytes > CACHE_BYTES or len(self._known) > CACHE_IMAGES):
                self._bytes -= self._known.popitem(last=False)[1].nbytes
        # A shallow copy: processors take entries out of what they get.
        return type(known.processed)(data=dict(known.processed.items()))


def opened_by(rendered: str) -> str:
    """What a chat template has begun of the response, as thinking models do: ``<think>`` and blanks, or nothing.

    >>> opened_by("<|user|>Which?<|assistant|><think>\\n")
    '<think>\\n'
    """
    ends = len(rendered.rstrip())
    return rendered[ends - len(THINK) :] if rendered[:ends].endswith(THINK) else ""


class _Remembering:
    """Stands in for an image processor and answers from memory; all else is the processor's."""

    def __init__(self, encoder: PromptEncoder, original: Any, known: _Known) -> None:
        self._encoder, self._original, self._known = encoder, original, known

    def __call__(self, images: Any, **options: Any) -> Any:
        return self._encoder.processed(self._original, self._known, images, options)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._original, name)


def collate(prompts: Sequence[EncodedPrompt], pad_token: int, *, side: str) -> dict[str, Tensor]:
    """Batch B prompts into model inputs on the CPU: token tensors ``(B, P)`` padded on ``side``, images joined."""
    width = max(len(prompt.tokens) for prompt in prompts)

    def line_up(rows: Sequence[Tensor], fill: int) -> Tensor:
        gaps = [(width - len(row), 0) if side == "left" else (0, width - len(row)) for row in rows]
        return torch.stack([pad(row, gap, value=fill) for row, gap in zip(rows, gaps, strict=True)])

    inputs = {
        "input_ids": line_up([prompt.tokens for prompt in prompts], pad_token),
        "attention_mask": line_up([torch.ones_like(prompt.tokens) for prompt in prompts], 0),
    }
    for name in prompts[0].per_token:
        inputs[name] = line_up([prompt.per_token[name] for prompt in prompts], 0)
    return inputs | join_images(prompts)


def join_images(prompts: Sequence[EncodedPrompt]) -> dict[str, Tensor]:
    """Image inputs of several prompts, one after the other; sizes that differ are padded with zeros."""
    joined = {}
    for name in prompts[0].per_image:
        values = [prompt.per_image[name] for prompt in prompts]
        shape = torch.tensor([value.shape[1:] for value in values]).amax(0).tolist()
        joined[name] = torch.cat([_grow(value, shape) for value in values])
    return joined


def _grow(value: Tensor, shape: Sequence[int]) -> Tensor:
    gaps = [
        gap for have, want in zip(reversed(value.shape[1:]), reversed(shape), strict=True) for gap in (0, want - have)
    ]
    return pad(value, gaps) if any(gaps) else value
