"""One spelling for texts that a person would call the same, and whether there is anything to see in one."""

import re
import unicodedata

_SAME = {
    **dict.fromkeys("\u2018\u2019\u201b\u02bc\u2032\u00b4", "'"),
    **dict.fromkeys("\u201c\u201d\u201e\u201f\u2033\u00ab\u00bb", '"'),
    **dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2015\u2212\u2043", "-"),
    "\u3002": ".",
}
# Unicode's Default_Ignorable_Code_Point: characters without a shape of their own.
_IGNORABLE = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f"
    "\ufeff\uffa0\ufff0-\ufff8\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
_BLANK = {"\u2800", "\U0001d159"}  # signs that are drawn as nothing
_LONGEST_STACK = 30  # marks on one letter in the Stream-Safe Text Format of Unicode's annex 15


class _Folds(dict[int, str]):
    """For :meth:`str.translate`: each character as its plainest form."""

    def __missing__(self, code: int) -> int | str:
        plain = _plain(chr(code))
        if plain == chr(code):
            return code
        self[code] = plain
        return plain


def _plain(character: str) -> str:
    if character in _SAME:
        return _SAME[character]
    if unicodedata.decomposition(character).startswith(("<super>", "<fraction>")):
        return character  # 10² is not 102
    folded = unicodedata.normalize("NFKC", character)
    return _IGNORABLE.sub("", "".join(_SAME.get(each, each) for each in folded))


_FOLDS = _Folds()


def canonical(text: str) -> str:
    """``text`` as NFKC has it, with plain quotes, dashes and stops and without invisible characters; case is kept.

    Raised digits and fractions stay what they are. Linear: a letter under more than 30 marks is left uncomposed.

    >>> canonical("（Ｂ）Bowman’s capsule。")
    "(B)Bowman's capsule."
    """
    if text.isascii():
        return text
    text = text.translate(_FOLDS)
    return unicodedata.normalize("NFC", text) if _stacks_are_low(text) else text


def _stacks_are_low(text: str) -> bool:
    """Whether marks can be put in order in linear time."""
    height = 0
    for character in text:
        height = height + 1 if unicodedata.combining(character) else 0
        if height > _LONGEST_STACK:
            return False
    return True


def normalise(text: str) -> str:
    """Form in which two option texts are compared: case, white space, ``_``/space and a trailing full stop don't count.

    Nor does the spelling in Unicode; see :func:`canonical`.

    >>> normalise(" Cystic_Plate. ")
    'cystic plate'
    """
    if not text.isascii():
        text = canonical(canonical(text).casefold())
    return " ".join(text.replace("_", " ").casefold().split()).removesuffix(".").rstrip()


def is_visible(text: str) -> bool:
    """Whether ``text`` has a letter, digit or sign that can be seen."""
    return any(
        unicodedata.category(character)[0] in "LNPS" and character not in _BLANK and not _IGNORABLE.match(character)
        for character in text
    )
