"""What is measured: shapes of a training step, and the questions of each."""

from dataclasses import dataclass

from model import RandomBank

from anatomy_r1.banks import open_bank
from anatomy_r1.core import Question, render_prompt
from anatomy_r1.envs import score


@dataclass(frozen=True)
class Shape:
    """A training step."""

    title: str
    questions: int = 1
    """Groups in a step."""
    group: int = 8
    response: int = 64
    """Tokens that a response has at most; exactly these where lengths are forced."""
    side: int = 448
    """Pixels along an edge of the image."""
    words: int = 5
    """Words of the question."""
    ragged: bool = False
    forced: bool = True
    """Random text of a given length and a random reward, against what the embedded model says and earns."""
    loss: str = "dapo"


SHAPES = {
    "base": Shape("14.6 M, 320 : 64, G = 8"),
    "ragged": Shape("14.6 M, 320 : ≤ 64 ragged, G = 8", ragged=True),
    "long-8": Shape("14.6 M, 1,100 : 128, G = 8", response=128, side=896, words=17),
    "long-16": Shape("14.6 M, 1,100 : 128, G = 16", group=16, response=128, side=896, words=17),
    "tiny": Shape("embedded model as in the demo, 16 × 8", questions=16, response=24, forced=False, loss="grpo"),
}


def questions(shape: Shape) -> list[Question]:
    """Questions of a shape, each with an image and a prompt of its own."""
    bank = open_bank("scenes").split("train") if not shape.forced else RandomBank(shape.side, shape.words)
    return list({rendered(q): q for q in (bank.question(i) for i in range(400 if not shape.forced else 64))}.values())


def rendered(question: Question) -> str:
    """What both trainers ask."""
    return render_prompt(question)


def reward_of(question: Question, text: str) -> float:
    """What both trainers pay."""
    return score(question, text).total
