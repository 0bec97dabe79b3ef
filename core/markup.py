"""Text that acts: what a chat template, a processor, the reward's parser or a terminal takes for more than words.

Questions that hold such text are refused. What is known besides about a question, and what messages quote, is cleaned.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

_TAGS = (
    "think|answer|image|video|audio|s|img|global-img|bos|eos|pad|unk|mask|box|ref|quad|point|slice|unit|patch|tool"
    r"|unused\d{1,6}|loc\d{1,5}|seg\d{1,5}|0x[0-9a-f]{2}"
)
_WORDS = "INST|IMG|THINK|PREFIX|SUFFIX|MIDDLE|ARGS|CLS|SEP|PAD|MASK|UNK|BOS|EOS"
_CONTROL = "\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\u202d\u202e\ud800-\udfff"
_MARKUP = re.compile(
    rf"<[|｜][^<>]{{0,64}}[|｜]>|(?i:</?(?:{_TAGS})>)|(?i:</?[a-z]+(?:_[a-z0-9]+)+>)"
    rf"|\[/?(?:{_WORDS}|[A-Z]+(?:_[A-Z0-9]+)+)\]|[{_CONTROL}]"
)
_ACTING = re.compile(rf"[\r{_CONTROL}]")


def find_markup(text: str) -> str | None:
    """First piece of ``text`` that a model or parser would not take for words: special token, tag, control code."""
    found = _MARKUP.search(text)
    return found[0] if found else None


def clean(text: str) -> str:
    """The text with U+FFFD for everything that would act on a terminal: escape and other control codes, surrogates.

    >>> clean("CT\\x1b[2J")
    'CT\ufffd[2J'
    """
    return _ACTING.sub("\ufffd", text) if _ACTING.search(text) else text


def clean_json(value: Any) -> Any:
    """JSON values whose texts, names included, are cleaned; the value itself where there is nothing to clean."""
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, Mapping):
        found = {clean_json(name): clean_json(item) for name, item in value.items()}
        return value if found == value else found
    if isinstance(value, list | tuple):
        items = [clean_json(item) for item in value]
        return value if items == list(value) else items
    return value


class SpecialTokens:
    """A tokenizer's own special tokens, to be looked for in texts before they become a prompt.

    Args:
        tokens: as the tokenizer writes them; those that may be words (letters and digits alone) are left out.
    """

    def __init__(self, tokens: Iterable[str]) -> None:
        kept = {token for token in tokens if len(token.strip()) > 2 and not token.strip().isalnum()}
        longest_first = sorted(kept, key=lambda token: (-len(token), token))
        self._pattern = re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")

    def find(self, *texts: str) -> str | None:
        """The first token in any of the texts; None where there is none."""
        return next((found[0] for text in texts if (found := self._pattern.search(text))), None)
