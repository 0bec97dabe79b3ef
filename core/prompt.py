"""How a question is put into words, and how those words are read back: instruction, stem, labelled options, answer.

The instruction comes first and the image before all text, so that the variants of a question share the longest prefix.
The wording is part of what a policy learnt: changing it changes results, so a golden file holds it.

A variant may look different (its ``option_style``, its ``instruction``), so whoever renders or grades the question
needs nothing else.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from anatomy_r1.core.errors import AnatomyError
from anatomy_r1.core.labels import DEFAULT_STYLE, LETTERS, read_label, read_options, write_options
from anatomy_r1.core.question import Question
from anatomy_r1.core.text import canonical, normalise

INSTRUCTION = "Think inside <think> </think>, then give one option inside <answer> </answer>."
INSTRUCTIONS = (
    "Reason inside <think> </think>, then write one option inside <answer> </answer>.",
    "First put your thoughts inside <think> </think>, then your choice of one option inside <answer> </answer>.",
    "Inside <think> </think> look closely and think; inside <answer> </answer> give exactly one option.",
    "Think it through inside <think> </think> and finish with one option inside <answer> </answer>.",
)
"""Wordings that ask for the same two blocks as the default instruction."""
_STEM = "Question: "


@dataclass(frozen=True)
class PromptText:
    """The parts of a prompt."""

    stem: str
    options: tuple[str, ...]
    option_style: str = DEFAULT_STYLE


def render_prompt(question: Question, instruction: str | None = None) -> str:
    """Prompt text of a question: instruction, stem, one labelled line per option.

    Without an ``instruction``, it is ``INSTRUCTION``, or the wording that an augmentation gave this variant.
    """
    own = INSTRUCTION if question.instruction is None else question.instruction
    first = own if instruction is None else instruction
    preface = (question.preface,) if question.preface else ()
    return "\n".join((first, *preface, f"{_STEM}{question.stem}", *option_lines(question)))


def stem_of(question: Question) -> str:
    """The stem behind its preface, in one line."""
    return f"{question.preface} {question.stem}".lstrip()


def option_lines(question: Question) -> list[str]:
    """The options as a prompt lists them."""
    return write_options(question.options, question.option_style)


def read_prompt(prompt: str) -> PromptText:
    """Read back what :func:`render_prompt` wrote, in any style and under any instruction.

    Raises:
        AnatomyError: the prompt does not end with two or more labelled options.
    """
    lines = prompt.split("\n")
    for start in range(len(lines) - 2, max(-1, len(lines) - 1 - len(LETTERS)), -1):
        if found := read_options(lines[start:]):
            above = "\n".join(("", *lines[:start]))
            return PromptText(above.partition(f"\n{_STEM}")[2] or above.lstrip("\n"), *found)
    raise AnatomyError(f"the prompt must end with its options, one 'A. …' a line; got {prompt[-120:]!r}.")


def read_option(answer: str, options: Sequence[str], style: str = DEFAULT_STYLE) -> int | None:
    """Index of the one option that ``answer`` names, as ``B``, ``B.``, ``B)``, ``(B)``, ``B. Liver`` or ``Liver``, in
    any spelling that :func:`normalise` makes one.

    Where the prompt numbers its options, ``2`` is read as ``B`` is.

    None where it names none, where letter and text disagree, and where it reads as one option's letter but as another
    one's text (options that are letters themselves): there, ``B. A`` says which.
    """
    texts = [normalise(option) for option in options]
    whole = normalise(answer)
    by_text = texts.index(whole) if whole in texts else None
    by_label = _read_labelled(canonical(answer).strip(), texts, style)
    if by_text is None or by_label is None:
        return by_label if by_text is None else by_text
    return by_text if by_text == by_label else None


def _read_labelled(answer: str, texts: Sequence[str], style: str) -> int | None:
    if (found := read_label(answer, style)) is None or found[0] >= len(texts):
        return None
    place, rest = found
    return None if rest.strip() and normalise(rest) != texts[place] else place
