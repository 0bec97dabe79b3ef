"""What was done to a question, in words for who has not read the code."""

_WORDS = {
    "synonyms": "other words for places and directions",
    "permute": "options reordered",
    "instruction": "other instruction",
    "flip": "image mirrored, left and right swapped",
    "colour": "colours of the image changed",
    "contrast": "contrast of the image changed",
    "blur": "image blurred",
    "jpeg": "image compressed",
    "rotate": "image rotated",
}
HEAD = 3
"""Words of a stem that show which form it has."""


def edit_words(code: str, stem: str, original: str | None) -> str:
    """Words for an edit; an unknown one keeps its code.

    Args:
        code: as the edit records itself, ``permute:2031``.
        stem: of the question after it.
        original: before it; None where that is not known.

    >>> edit_words("grammar:Z1>Z2", "There is a thing, what is its name?", "What is the thing?")
    'What is the … → There is a …'
    """
    name, _, detail = code.partition(":")
    if name in ("grammar", "frame", "llm"):
        heads = [" ".join(text.split()[:HEAD]) for text in (original or "", stem)]
        return f"{heads[0]} … → {heads[1]} …" if original and heads[0] != heads[1] else "asked in other words"
    if name == "unlike":
        return "easier options: " + detail.replace(">", " → ").replace(",", ", ")
    if name in ("locate", "style"):
        return f"told where to look: {detail}" if name == "locate" else f"options marked otherwise: {detail}"
    return _WORDS.get(name, code)
