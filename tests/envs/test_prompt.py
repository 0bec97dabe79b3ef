from pathlib import Path

from anatomy_r1.core import Question, render_prompt
from anatomy_r1.envs import as_text, score

GOLDEN = Path(__file__).parent / "golden"


def test_prompt_is_the_golden_one(question: Question) -> None:
    assert render_prompt(question) == (GOLDEN / "prompt.txt").read_text("utf-8")


def test_an_instruction_of_ones_own_changes_the_first_line_alone(question: Question) -> None:
    own, ours = render_prompt(question, "Réponds."), render_prompt(question)
    assert own.splitlines()[0] == "Réponds."
    assert own.splitlines()[1:] == ours.splitlines()[1:]


def test_transcript_is_the_golden_one_and_spells_out_control_characters(question: Question) -> None:
    response = "<think>\x1b[31mred\x07</think>\n<answer>A</answer>"
    transcript = as_text(question, response, score(question, response))
    assert transcript == (GOLDEN / "transcript.txt").read_text("utf-8")
