"""How a question is put into words.

The instruction comes first and the image before all text, so that the variants of a question share the longest prefix.
The wording is part of what a policy learnt: changing it changes results, so a golden file holds it.
"""

from anatomy_r1.banks import LETTERS, Question

INSTRUCTION = "Think inside <think> </think>, then give one option inside <answer> </answer>."


def render_prompt(question: Question, instruction: str = INSTRUCTION) -> str:
    """Prompt text of a question: instruction, stem, one lettered line per option."""
    options = (f"{letter}. {option}" for letter, option in zip(LETTERS, question.options, strict=False))
    return "\n".join((instruction, f"Question: {question.stem}", *options))
