import hashlib
import json
from collections import Counter

import numpy as np
import pytest

from anatomy_r1.banks import MixBank, open_bank
from anatomy_r1.core import AnatomyError


class Shelf:
    """Ten questions of ``scenes`` under a name of their own."""

    structures = ("liver",)
    splits = ("train", "test")

    def __init__(self, name, size=10):
        self.name, self.size, self.inner = name, size, open_bank("scenes", split="train")

    def __len__(self):
        return self.size

    def split(self, name):
        return self

    def question(self, index):
        return self.inner.question(index)


def label(question):
    return question.id.split("/")[1]


def test_shares_follow_the_weights_and_questions_come_evenly():
    mix = MixBank({"a": Shelf("a"), "b": Shelf("b")}, {"a": 3, "b": 1}, length=2000)
    ids = [mix.question(at).id for at in range(2000)]
    assert len(set(ids)) == 2000 and all(mix.index_of(name) == at for at, name in enumerate(ids[:20]))
    counts = Counter(name.split("/", 1)[1] for name in ids)
    assert 0.72 < sum(count for name, count in counts.items() if name.startswith("a/")) / 2000 < 0.78
    for bank in "ab":
        of_bank = [count for name, count in counts.items() if name.startswith(bank)]
        assert len(of_bank) == 10 and max(of_bank) - min(of_bank) <= 1


def test_a_schedule_moves_the_shares():
    weights = {"a": [[0, 1], [0.5, 0]], "b": [[0, 0], [0.5, 1]]}
    mix = MixBank({"a": Shelf("a"), "b": Shelf("b")}, weights, length=1000)
    first, last = ([label(mix.question(at)) for at in part] for part in (range(100), range(500, 1000)))
    assert first.count("a") > 75 and last.count("b") == 500
    for progress, share in ((0.0, 0.0), (0.25, 0.5), (0.9, 1.0)):
        now = [label(mix.question(mix.index_at(at, progress))) for at in range(0, 1000, 7)]
        assert abs(now.count("b") / len(now) - share) < 0.08


def test_splits_and_files(tmp_path):
    (tmp_path / "mix.toml").write_text(
        'length = 300\n[[bank]]\nspec = "scenes"\noptions = {size = 64}\n[[bank]]\nspec = "scenes"\nweight = 2.0\n'
    )
    mix = open_bank(f"mix:{tmp_path / 'mix.toml'}", split="test")
    questions = [mix.question(at) for at in range(300)]
    assert {q.source for q in questions} == {"scenes/test"}
    sizes = Counter(q.pixels().shape[0] for q in questions[:30])
    assert set(sizes) == {64, 96} and len({q.id for q in questions}) == 300
    assert set(open_bank("mix:scenes=0.5").structures) == set(open_bank("scenes").structures)


def test_same_order_every_time():
    one, other = (open_bank("mix:scenes=0.5,brain-atlas=0.5", seed=4, length=50) for _ in range(2))
    assert [one.question(at) for at in range(50)] == [other.question(at) for at in reversed(range(50))][::-1]
    kinds = [label(one.question(at)) for at in range(50)]
    assert 10 < kinds.count("scenes") < 40


@pytest.mark.parametrize(
    "text",
    [
        "bank = 3",
        "[[bank]]\nweight = 1",
        "[[bank]]\nspec = 'scenes'\ncolour = 1",
        "[[bank]]\nspec = 'scenes'\nweight = -1",
        "[[bank]]\nspec = 'scenes'\nweight = [[0, 1], [0.5]]",
        "[[bank]]\nspec = 'scenes'\nweight = true",
        "length = 'x'",
        "[[bank]]\nspec = 'scenes'\nweight = [[1, 1], [0, 1]]",
        "[[bank]]\nspec = 'scenes'\nweight = 0",
        "[[",
        "\xff",
        "[[bank]]\nspec = 'scenes'\nweight = nan",
        "[[bank]]\nspec = 'nothing'",
    ],
)
def test_mistakes(tmp_path, text):
    path = tmp_path / "mix.toml"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(AnatomyError):
        open_bank(f"mix:{path}")


def test_a_thousand_mutations_of_a_file(tmp_path, rng, spoil_bytes):
    path = tmp_path / "mix.toml"
    text = b'length = 40\n[[bank]]\nspec = "scenes"\nweight = [[0.0, 1.0], [1.0, 0.5]]\n'
    text += b'[[bank]]\nspec = "scenes"\nweight = 2.0\n'
    sound = 0
    for _ in range(1000):
        path.write_bytes(spoil_bytes(text, rng))
        try:
            mix = open_bank(f"mix:{path}", length=40)
        except AnatomyError:
            continue
        sound += 1
        assert np.isfinite([mix.question(at).answer for at in (0, 39)]).all()
    assert 3 < sound < 900


def test_golden_questions():
    weights = {"a": [[0, 1], [1, 0.2]], "b": 0.5}
    mix = MixBank({"a": open_bank("scenes"), "b": open_bank("scenes", seed=3)}, weights, length=100, seed=7)
    keys = [[*mix.split(part).question(at).key()[:8]] for part in mix.splits for at in range(0, 100, 9)]
    order = [mix.index_at(at, progress) for at in range(0, 100, 17) for progress in (0.0, 0.4, 1.0)]
    assert hashlib.sha256(json.dumps([keys, order]).encode()).hexdigest()[:16] == "c4566f70817254e2"
