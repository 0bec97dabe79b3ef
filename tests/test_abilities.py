"""What a plug-in may have besides is declared in Protocols, never probed for by name."""

import ast
from pathlib import Path

import pytest

from anatomy_r1.banks import Featured, Grounded, Scheduled, Segmented, open_bank
from anatomy_r1.core import image_key
from anatomy_r1.curricula import Levelled, Paced, make_augmentation, make_curriculum
from anatomy_r1.curricula.edits import Edited

ROOT = Path(__file__).parent.parent
ROOMS = ("banks", "curricula", "envs", "evaluation", "integrations")
FILES = [path for room in ROOMS for path in sorted((ROOT / room).rglob("*.py"))]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_ability_is_probed_for_by_name(path):
    """A ``hasattr`` is a question to a Protocol; so is ``getattr`` with a default, but for what isn't ours."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("hasattr", "getattr"):
            foreign = ast.unparse(node.args[0]) in ("error", "response", "judge")  # others' exceptions and responses
            assert foreign or (node.func.id == "getattr" and len(node.args) == 2), f"{path}:{node.lineno}"


def test_what_ours_can_is_what_they_declare():
    scenes, mix = open_bank("scenes"), open_bank("mix:scenes=1")
    assert isinstance(scenes, Segmented) and isinstance(scenes, Featured) and not isinstance(scenes, Scheduled)
    assert isinstance(scenes, Grounded) and isinstance(mix, Grounded)
    assert isinstance(mix, Scheduled) and isinstance(mix, Segmented) and not mix.scheduled
    asc, uniform = make_curriculum("asc", scenes), make_curriculum("uniform", scenes)
    assert isinstance(asc, Levelled) and not isinstance(uniform, Levelled) and asc.reach == asc.drawer.spread.reach
    gdqa, none = make_augmentation("gdqa", scenes), make_augmentation("none", scenes)
    assert isinstance(gdqa, Edited) and isinstance(gdqa, Paced) and not isinstance(none, Edited | Paced)


class Yours:
    """A bank whose questions follow progress, and that is no mixture."""

    name, splits, structures, scheduled = "yours", (), ("liver", "gut"), True

    def __init__(self):
        self.bank, self.asked = open_bank("scenes"), []

    def __len__(self):
        return 10

    def question(self, index):
        return self.bank.question(index)

    def index_at(self, index, progress):
        self.asked.append(progress)
        return 3


def test_a_bank_of_yours_that_follows_progress_is_asked_as_a_mixture_is():
    bank = Yours()
    choice = make_curriculum("uniform", bank).choose(0, 0.25)
    assert bank.asked == [0.25] and choice.question.id == open_bank("scenes").question(3).id
    assert image_key(choice.question.image) == image_key(choice.question.image)


@pytest.mark.parametrize("path", sorted((ROOT / "agents").rglob("*.py")) + FILES, ids=str)
def test_an_image_is_identified_in_one_place(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "id":
            assert "image" not in ast.unparse(node), f"{path}:{node.lineno}: use image_key"
