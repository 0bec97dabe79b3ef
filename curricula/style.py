"""How a variant's prompt may look besides its wording: labels of the options, and the instruction.

Both travel in the question's ``details`` (``option_style``, ``instruction``), so that whoever renders or scores the
question needs nothing else. Labels change how options are written, never their order: the second option is ``B``,
``(b)`` or ``2.``, and its letter stays a valid answer in every style.
"""

from collections.abc import Callable, Mapping

from anatomy_r1.banks import LETTERS, Question

STYLES: Mapping[str, Callable[[int], str]] = {
    "A.": lambda place: f"{LETTERS[place]}.",
    "(a)": lambda place: f"({LETTERS[place].lower()})",
    "1.": lambda place: f"{place + 1}.",
}
"""Name of a style → label of the option at a place; the first is the default."""
DEFAULT_STYLE = "A."
NUMBERED = "1."
INSTRUCTIONS = (
    "Reason inside <think> </think>, then write one option inside <answer> </answer>.",
    "First put your thoughts inside <think> </think>, then your choice of one option inside <answer> </answer>.",
    "Inside <think> </think> look closely and think; inside <answer> </answer> give exactly one option.",
    "Think it through inside <think> </think> and finish with one option inside <answer> </answer>.",
)
"""Wordings that ask for the same two blocks as the default instruction."""


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
