"""How a question is put into words, and how those words are read back: labels, instruction, prompt.

The instruction comes first and the image before all text, so that the variants of a question share the longest prefix.
The wording is part of what a policy learnt: changing it changes results, so a golden file holds it.

A variant may look different (``option_style``, ``instruction`` in the question's ``details``), so whoever renders or
grades the question needs nothing else. Labels change how options are written, never their order: the second option is
``B``, ``(b)`` or ``2.``, and its letter stays a valid answer in every style.
"""

from collections.abc import Callable, Mapping

from anatomy_r1.core.question import LETTERS, Question

INSTRUCTION = "Think inside <think> </think>, then give one option inside <answer> </answer>."
INSTRUCTIONS = (
    "Reason inside <think> </think>, then write one option inside <answer> </answer>.",
    "First put your thoughts inside <think> </think>, then your choice of one option inside <answer> </answer>.",
    "Inside <think> </think> look closely and think; inside <answer> </answer> give exactly one option.",
    "Think it through inside <think> </think> and finish with one option inside <answer> </answer>.",
)
"""Wordings that ask for the same two blocks as the default instruction."""
STYLES: Mapping[str, Callable[[int], str]] = {
    "A.": lambda place: f"{LETTERS[place]}.",
    "(a)": lambda place: f"({LETTERS[place].lower()})",
    "1.": lambda place: f"{place + 1}.",
}
"""Name of a style → label of the option at a place; the first is the default."""
DEFAULT_STYLE = "A."
NUMBERED = "1."


def render_prompt(question: Question, instruction: str | None = None) -> str:
    """Prompt text of a question: instruction, stem, one labelled line per option.

    Without an ``instruction``, it is ``INSTRUCTION``, or the wording that an augmentation gave this variant.
    """
    first = instruction_of(question, INSTRUCTION) if instruction is None else instruction
    return "\n".join((first, f"Question: {stem_of(question)}", *option_lines(question)))


def stem_of(question: Question) -> str:
    """The stem, behind what the bank says of the image before it asks (``details["preface"]``: plane, window, display).

    The preface stands apart, so that a stem stays one of the grammar's and its rewrites keep the preface.
    """
    preface = str(question.details.get("preface", ""))
    return f"{preface} {question.stem}" if preface else question.stem


def style_of(question: Question) -> str:
    """Name of the question's option style."""
    return str(question.details.get("option_style", DEFAULT_STYLE))


def option_lines(question: Question) -> list[str]:
    """The options as a prompt lists them."""
    label = STYLES[style_of(question)]
    return [f"{label(place)} {option}" for place, option in enumerate(question.options)]


def instruction_of(question: Question, default: str) -> str:
    """The question's own instruction, if a variant gave it one."""
    return str(question.details.get("instruction", default))
