"""What both trainers get: a Qwen2.5-VL of 14.6 million random parameters, its questions, and counters of their work."""

from importlib.util import find_spec
from itertools import islice, product
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import torch
import torchvision_ops  # noqa: F401 (before transformers)
from tiny_model import build_tokenizer
from transformers import (
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    Qwen2VLImageProcessor,
    Qwen2VLVideoProcessor,
)

from anatomy_r1.agents.model.compat import NoVideo, without_video
from anatomy_r1.core import Question, render_prompt

WORDS = ["".join(letters) for letters in islice(product("abcdefghijklmnopqrst", repeat=3), 7_700)]
_SPECIAL = ("<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")
_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{% if message['content'] is string %}"
    "{{ message['content'] }}{% else %}{% for part in message['content'] %}{% if part['type'] == 'image' %}"
    "<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


TEXT = {
    "hidden_size": 384,
    "intermediate_size": 1024,
    "num_hidden_layers": 4,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "vocab_size": 8192,
}
TOWER = {"depth": 6, "hidden_size": 256, "intermediate_size": 400, "num_heads": 4, "fullatt_block_indexes": [2, 5]}


def write_model(folder: Path) -> None:
    """The model and its processor as a transformers folder."""
    processor = make_processor()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Qwen2_5_VLForConditionalGeneration(make_config(processor.tokenizer, TEXT, TOWER))
    model.save_pretrained(folder)
    processor.save_pretrained(folder)


def make_processor() -> Qwen2_5_VLProcessor:
    """A processor whose words are a token each."""
    tokenizer = build_tokenizer(
        [" " + " ".join(WORDS), f"user assistant {render_prompt(RandomBank(28, 1).question(0))}"]
    )
    tokenizer.add_special_tokens({"additional_special_tokens": list(_SPECIAL)})
    tokenizer.eos_token = "<|im_end|>"
    limits = {"min_pixels": 28 * 28, "max_pixels": 2048 * 28 * 28}
    with without_video(lambda path: {}):
        video = Qwen2VLVideoProcessor() if find_spec("torchvision") else NoVideo({})
        return Qwen2_5_VLProcessor(Qwen2VLImageProcessor(**limits), tokenizer, video, chat_template=_TEMPLATE)


def make_config(tokenizer: Any, text: dict[str, Any], tower: dict[str, Any]) -> Qwen2_5_VLConfig:
    """A Qwen2.5-VL of these shapes that reads what the tokenizer writes."""
    ids = {name: tokenizer.convert_tokens_to_ids(f"<|{name}|>") for name in ("image_pad", "video_pad")}
    ends = {f"vision_{end}_token_id": tokenizer.convert_tokens_to_ids(f"<|vision_{end}|>") for end in ("start", "end")}
    # Half a head's size, on three axes as Qwen2.5-VL shares it out.
    half = text["hidden_size"] // text["num_attention_heads"] // 2
    sections = [half // 4, half * 3 // 8, half * 3 // 8]
    return Qwen2_5_VLConfig(
        text_config={
            "max_position_embeddings": 4096,
            "tie_word_embeddings": True,
            "pad_token_id": tokenizer.pad_token_id,
            "rope_parameters": {"rope_type": "default", "mrope_section": sections, "rope_theta": 1e6},
        }
        | text,
        vision_config=tower | {"patch_size": 14, "out_hidden_size": text["hidden_size"], "window_size": 112},
        image_token_id=ids["image_pad"],
        video_token_id=ids["video_pad"],
        **ends,
        tie_word_embeddings=text.get("tie_word_embeddings", True),
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


class RandomBank:
    """Questions of a fixed length about images of noise: enough to measure, nothing to learn."""

    name, splits, structures = "noise", ("train",), ("aaa", "aab", "aac", "aad")

    def __init__(self, side: int, words: int, size: int = 64) -> None:
        self.side, self.words, self.size = side, words, size

    def __len__(self) -> int:
        return self.size

    def question(self, index: int) -> Question:
        """A question with an image of ``side`` pixels and a stem of ``words`` words."""
        rng = np.random.default_rng([7, index])
        noise = rng.integers(0, 256, (self.side, self.side, 3), dtype=np.uint8)
        stem = "".join(f" {word}" for word in rng.choice(WORDS, self.words))
        return Question(
            id=f"noise/{index}",
            image=lambda: noise,
            stem=stem,
            options=self.structures,
            answer=0,
            structure="aaa",
            question_type="noise",
            modality="none",
            group_key=str(index),
            source="noise",
        )

    def index_of(self, question_id: str) -> int:
        """Its place."""
        return int(question_id.rpartition("/")[2])

    def split(self, name: str) -> "RandomBank":
        """There is but one."""
        return self


def noise_reward(text: str) -> float:
    """A reward with variance that can't be learnt."""
    return crc32(text.encode()) % 1000 / 1000


def lengths(step: int, rows: int, longest: int, ragged: bool) -> list[int]:
    """Tokens that each response of a step is given."""
    if not ragged:
        return [longest] * rows
    return np.random.default_rng([11, step]).integers(longest // 4, longest + 1, rows).tolist()


class Work:
    """Counts what doesn't depend on the machine: images preprocessed, patches encoded, tokens through the decoder."""

    def __init__(self, model: Any, image_processor: Any, vision: Any, layer: Any) -> None:
        self.images = self.patches = self.tokens = 0
        vision.register_forward_pre_hook(self._seen, with_kwargs=True)
        layer.register_forward_pre_hook(self._read, with_kwargs=True)
        kind = type(image_processor)
        original = kind.__call__

        def counting(processor: Any, images: Any, *rest: Any, **options: Any) -> Any:
            self.images += _count(images)
            return original(processor, images, *rest, **options)

        kind.__call__ = counting

    def _seen(self, module: Any, inputs: Any, options: Any) -> None:
        pixels = inputs[0] if inputs else next(iter(options.values()))
        # Qwen hands over a row per patch, SigLIP whole images.
        patch = getattr(module, "patch_size", None)
        self.patches += len(pixels) if pixels.ndim == 2 else len(pixels) * (pixels.shape[-1] // patch) ** 2

    def _read(self, module: Any, inputs: Any, options: Any) -> None:
        states = inputs[0] if inputs else options["hidden_states"]
        self.tokens += states.shape[0] * states.shape[1]

    def take(self) -> dict[str, int]:
        """The counts since the last call."""
        counts = {"images": self.images, "patches": self.patches, "tokens": self.tokens}
        self.images = self.patches = self.tokens = 0
        return counts


def _count(images: Any) -> int:
    return sum(map(_count, images)) if isinstance(images, list | tuple) else 1


def memory() -> dict[str, float]:
    """Resident memory now and at its peak, in MB."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":" in line)
    return {name: int(lines[key].split()[0]) / 1000 for name, key in (("now", "VmRSS"), ("peak", "VmHWM"))}
