"""How a question is put into words.

The instruction comes first and the image before all text, so that the variants of a question share the longest prefix.
The wording is part of what a policy learnt: changing it changes results, so a golden file holds it.
"""

from anatomy_r1.banks import Question
from anatomy_r1.curricula.style import instruction_of, option_lines

INSTRUCTION = "Think inside <think> </think>, then give one option inside <answer> </answer>."


def render_prompt(question: Question, instruction: str | None = None) -> str:
    """Prompt text of a question: instruction, stem, one labelled line per option.

    Without an ``instruction``, it is ``INSTRUCTION``, or the wording that an augmentation gave this variant.
    """
    first = instruction_of(question, INSTRUCTION) if instruction is None else instruction
    return "\n".join((first, f"Question: {question.stem}", *option_lines(question)))
