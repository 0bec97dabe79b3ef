"""The embedded model: a transformers folder of about 1.5 million parameters that learns on two CPU cores.

It is an Idefics3 (arXiv 2408.12637): a SigLIP-style vision tower, pixel shuffle, a Llama decoder. Idefics3 because its
processor needs Pillow alone, where the Qwen-VL processors need torchvision for video. At 96 × 96 pixels the frame is
12 × 12 patches, shuffled into 3 × 3 image tokens, so an image token is one of the nine locations a question can name.
"""

from collections.abc import Iterable

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import (
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    Idefics3ImageProcessorPil,
    Idefics3Processor,
    PreTrainedTokenizerFast,
)

IMAGE_SIZE = 96
PATCH_SIZE = 8
SHUFFLE = 4

_SPECIAL = (
    "<|pad|>",
    "<end_of_utterance>",
    "<fake_token_around_image>",
    "<image>",
    "<global-img>",
    "<|user|>",
    "<|assistant|>",
)
_TAGS = ("<think>", "</think>", "<answer>", "</answer>")
_CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|user|>' if message['role'] == 'user' else '<|assistant|>' }}"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image>{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endif %}<end_of_utterance>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def build_tokenizer(texts: Iterable[str]) -> PreTrainedTokenizerFast:
    """A tokenizer that knows every word of ``texts`` as one token and spells all others in bytes.

    An underscore reads as a space, so that ``cystic_plate`` in a question and ``cystic plate`` among its options are
    the same tokens.
    """
    normalizer = normalizers.Replace("_", " ")
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    words: set[str] = set()
    for text in texts:
        words.update(word for word, _ in byte_level.pre_tokenize_str(normalizer.normalize_str(text)))
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: i for i, token in enumerate([*alphabet, *sorted(words - set(alphabet))])}
    # With no merges and ignore_merges, a word is either in the vocabulary whole or falls apart into bytes.
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[], ignore_merges=True))
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = byte_level
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in _SPECIAL])
    tokenizer.add_tokens([AddedToken(token, special=False, normalized=False) for token in _TAGS])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<|pad|>",
        eos_token="<end_of_utterance>",
        model_input_names=["input_ids", "attention_mask"],
        clean_up_tokenization_spaces=False,
    )


def build_processor(tokenizer: PreTrainedTokenizerFast) -> Idefics3Processor:
    """Processor for square frames: one global image, no splitting."""
    images = Idefics3ImageProcessorPil(
        size={"longest_edge": IMAGE_SIZE},
        max_image_size={"longest_edge": IMAGE_SIZE},
        do_image_splitting=False,
        return_row_col_info=True,
        image_mean=[0.5] * 3,
        image_std=[0.25] * 3,
    )
    return Idefics3Processor(
        images, tokenizer, image_seq_len=(IMAGE_SIZE // PATCH_SIZE // SHUFFLE) ** 2, chat_template=_CHAT_TEMPLATE
    )


def build_model(processor: Idefics3Processor, seed: int = 0) -> Idefics3ForConditionalGeneration:
    """Model with random weights drawn from ``seed`` (the global torch generator is left as it was)."""
    tokenizer = processor.tokenizer
    special = {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id, "bos_token_id": None}
    config = Idefics3Config(
        vision_config={
            "hidden_size": 96,
            "intermediate_size": 192,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "image_size": IMAGE_SIZE,
            "patch_size": PATCH_SIZE,
        },
        text_config={
            "model_type": "llama",
            "hidden_size": 128,
            "intermediate_size": 320,
            "num_hidden_layers": 5,
            "num_attention_heads": 4,
            "num_key_value_heads": 4,
            "vocab_size": len(tokenizer),
            "max_position_embeddings": 1024,
            "tie_word_embeddings": True,
            **special,
        },
        scale_factor=SHUFFLE,
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        tie_word_embeddings=True,
        **special,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Idefics3ForConditionalGeneration(config)
    return model.eval()
