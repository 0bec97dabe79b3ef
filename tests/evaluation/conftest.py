import itertools
from pathlib import Path

import numpy as np
import pytest

from anatomy_r1.agents import Response
from anatomy_r1.core import AnatomyError, Question
from anatomy_r1.evaluation import Rollout
from anatomy_r1.evaluation.records import permute_options

ORGANS = ("liver", "gut", "omentum", "gallbladder", "cystic plate", "spleen")


class ClusterBank:
    """Questions in memory, five to a patient; counts how often images are decoded."""

    name = "clusters"
    splits = ("train", "test")
    structures = ORGANS

    def __init__(self, size=60, split="train"):
        self.size, self.part, self.decoded = size, split, []

    def __len__(self):
        return self.size

    def split(self, name):
        if name not in self.splits:
            raise AnatomyError(f"no split {name!r}")
        part = ClusterBank(self.size, name)
        part.decoded = self.decoded
        return part

    def index_of(self, question_id):
        return int(question_id.rpartition("/")[2])

    def question(self, index):
        rng = np.random.default_rng([self.splits.index(self.part), index])
        options = tuple(str(organ) for organ in rng.permutation(ORGANS)[: 4 if index % 2 else 3])
        answer = int(rng.integers(len(options)))

        def image():
            self.decoded.append(index)
            return np.full((40, 60, 3), index % 256, np.uint8)

        return Question(
            id=f"{self.part}/{index}",
            image=image,
            stem=f"What is at place {index}?",
            options=options,
            answer=answer,
            structure=options[answer],
            question_type=("marker", "relation")[index % 2],
            modality="none",
            group_key=f"patient-{index // 5}",
            source="clusters",
        )


def form_of_id(question_id):
    """The question of :class:`ClusterBank` in the form that an id names: ``test/7~2`` is the second order of test/7."""
    name, _, number = question_id.partition("~")
    part = ClusterBank(split=name.partition("/")[0])
    return permute_options(part.question(part.index_of(name)), int(number or 0))


class TextPolicy:
    """Says what a function of the question says."""

    name = "text"

    def __init__(self, say):
        self.say = say

    def respond(self, observations, *, n=1):
        return [Response(self.say(form_of_id(name))) for name in observations["question_id"] for _ in range(n)]


@pytest.fixture(scope="session")
def make_bank():
    return ClusterBank


@pytest.fixture(scope="session")
def form_of():
    return form_of_id


@pytest.fixture
def bank():
    return ClusterBank()


@pytest.fixture
def text_policy():
    return TextPolicy


@pytest.fixture
def rollout_of():
    """Builds rollouts of which only what is told matters."""
    numbers = itertools.count()

    def build(**fields):
        number = next(numbers)
        known = {
            "question_id": f"q{number}",
            "permutation": 0,
            "sample": 0,
            "control": None,
            "stem": "What is it?",
            "options": ("liver", "gut"),
            "answer": "A",
            "structure": "liver",
            "question_type": "t",
            "modality": "m",
            "group_key": f"g{number}",
            "groups": {},
            "similarity": None,
            "image": None,
            "text": "",
            "truncated": False,
            "format": True,
            "choice": "A",
            "reward": 0.0,
            "parts": {},
            "probabilities": None,
            "usage": {},
            "baselines": {},
            "failed": None,
        } | fields
        return Rollout(**{"correct": known["choice"] == known["answer"]} | known)

    return build


@pytest.fixture(scope="session")
def serious():
    """What axe-core finds that keeps someone from using a page: rule and place."""
    package = pytest.importorskip("axe_playwright_python", reason="axe-playwright-python is not installed")
    script = Path(package.__file__).with_name("axe.min.js").read_text(encoding="utf-8")

    def look(page, within="html"):
        page.evaluate(script)
        found = page.evaluate("part => axe.run(part, {resultTypes: ['violations']})", within)["violations"]
        return [(one["id"], one["nodes"][0]["html"][:160]) for one in found if one["impact"] in ("serious", "critical")]

    return look
