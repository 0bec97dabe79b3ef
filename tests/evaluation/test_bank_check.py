import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pil

from anatomy_r1.banks import export_jsonl, open_bank
from anatomy_r1.core import Question
from anatomy_r1.evaluation.audits import open_tolerant, validate
from anatomy_r1.evaluation.audits.bank_check import ungradable
from anatomy_r1.evaluation.audits.near_duplicates import ImageHash, find_pairs, hash_image


def picture(seed: int, size: int = 96) -> np.ndarray:
    rng = np.random.default_rng(seed)
    small = Pil.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8))
    return np.asarray(small.resize((size, size), Pil.Resampling.BICUBIC))


@pytest.fixture
def folder(tmp_path):
    """Ten sound questions in two splits, on ten images."""
    rows = []
    for k in range(10):
        Pil.fromarray(picture(k)).save(tmp_path / f"{k}.png")
        rows.append(
            {
                "id": f"q{k}",
                "image": f"{k}.png",
                "stem": "What?",
                "options": ["liver", "gut"],
                "answer": k % 2,
                "group_key": f"g{k}",
                "split": "train" if k < 5 else "test",
            }
        )
    return tmp_path, rows


def check(folder, rows, **options):
    (folder / "q.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return validate(open_tolerant(f"jsonl:{folder / 'q.jsonl'}"), **options)


def test_a_sound_bank(folder):
    found = check(*folder)
    assert (found.questions, found.images, found.splits) == (10, 10, {"train": 5, "test": 5})
    assert found.letters == {"A": 5, "B": 5} and found.options == {2: 10} and found.structures == {"liver": 5, "gut": 5}
    assert not (found.refused or found.leaks or found.duplicates or found.conflicts)


def test_refused_rows_and_broken_images_are_named(folder):
    path, rows = folder
    rows[2]["answer"] = "spleen"
    rows[3]["image"] = "none.png"
    (path / "4.png").write_bytes((path / "4.png").read_bytes()[:200])
    found = check(path, rows)
    assert found.questions == 7
    wheres = [refusal.where for refusal in found.refused]
    assert wheres == [f"{path / 'q.jsonl'}:3", f"{path / 'q.jsonl'}:4", "q4"]
    assert "truncated" in found.refused[2].reason and found.bad_images == 2
    json.dumps(found.as_json(), allow_nan=False)


def test_leaks_between_splits(folder):
    pytest.importorskip("imagehash")
    path, rows = folder
    Pil.fromarray(picture(0)).save(path / "copy.png")  # the same pixels in another file
    rows[5]["image"] = "copy.png"
    rows[6]["group_key"] = "g1"
    jpeg = Pil.fromarray(picture(2)).resize((80, 80))  # another size and compression
    jpeg.save(path / "7.jpg", quality=70)
    rows[7]["image"] = "7.jpg"
    rows[1]["image"] = rows[0]["image"]  # within a split: no leak
    kinds = {leak.kind: leak for leak in check(path, rows).leaks}
    assert kinds.keys() == {"same group", "same image", "near-duplicate image"}
    assert kinds["same group"].what == "g1" and kinds["same image"].what.endswith("copy.png")
    assert "2.png" in kinds["near-duplicate image"].what and "7.jpg" in kinds["near-duplicate image"].what
    assert all(leak.splits == ("train", "test") for leak in kinds.values())
    assert "near-duplicate image" not in {leak.kind for leak in check(path, rows, looks=False).leaks}


def test_duplicates_and_contradictions(folder):
    path, rows = folder
    rows[1] |= {"image": "0.png", "answer": rows[0]["answer"], "options": rows[0]["options"]}
    rows[3] |= {"image": "2.png", "options": ["spleen", "gut", "liver"], "answer": 0}
    found = check(path, rows)
    assert found.duplicates == [("q0", "q1")]
    assert [(item.ids, item.answers) for item in found.conflicts] == [(("q2", "q3"), ("liver", "spleen"))]


def test_a_bank_without_end_is_sampled():
    found = validate(open_bank("scenes"), looks=False, limit=5)
    assert found.questions == 15 and found.available == 1_000_000 and found.images == 15


def test_gold_answers_must_earn_full_marks():
    def question(options):
        return Question("q", lambda: picture(0), "What?", options, 0, "x", "", "", "", "")

    assert ungradable(question(("liver", "gut"))) is None
    assert "'B'" in ungradable(question(("B", "C")))  # read as the letter of the other option


def test_near_duplicates_are_found_among_many():
    pytest.importorskip("imagehash")
    prints = [hash_image(picture(k)) for k in range(60)]
    prints += [hash_image(np.asarray(Pil.fromarray(picture(k)).resize((70, 70)))) for k in range(0, 60, 10)]
    splits = ["train"] * 60 + ["test"] * 6
    assert sorted(find_pairs(prints, splits)) == [(10 * k, 60 + k) for k in range(6)]
    assert not list(find_pairs(prints, ["train"] * 66))
    crowd = [ImageHash(7, prints[0].copy)] * 5000  # all in one bucket: must not take minutes
    assert len(list(find_pairs(crowd, ["train", "test"] * 2500))) <= 2500


def test_what_is_exported_validates(tmp_path):
    bank = open_bank("scenes", split="validation")
    export_jsonl(bank, range(12), tmp_path / "out", split="test")
    found = validate(open_tolerant(f"jsonl:{tmp_path / 'out/questions.jsonl'}"))
    assert (found.questions, found.splits, found.refused) == (12, {"test": 12}, [])


def test_rows_are_checked_without_images(folder):
    """The same image is known by its place, and by what splits share of it."""
    path, rows = folder
    for row in rows:
        row["image"] = f"far/{row['image']}"
    rows[5]["image"] = rows[0]["image"]
    rows[6]["group_key"] = "g1"
    rows[7] |= {"answer": "spleen"}
    (path / "q.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    spec = f"jsonl:{path / 'q.jsonl'}"
    assert open_tolerant(spec, require_images=False).question(0).stem == "What?"
    found = validate(open_tolerant(spec, require_images=False), images=False)
    assert (found.questions, found.images, len(found.refused), found.bad_images) == (9, 8, 1, 0)
    kinds = {leak.kind: leak.splits for leak in found.leaks}
    assert kinds == {"same group": ("train", "test"), "same image": ("train", "test")}
    assert not found.decoded and not found.looked_alike


@pytest.mark.parametrize("to", ["anatomy-r1:{}/anatomy_r1", "omnimedvqa:{}/omnimedvqa"])
def test_rows_whose_images_are_not_here_are_checked_and_exported(tmp_path, to):
    data = Path(__file__).resolve().parents[3] / "shared/data"
    if not data.is_dir():
        pytest.skip("the shared data are not here")
    bank = open_tolerant(to.format(data), require_images=False)
    found = validate(bank, images=False)
    assert found.questions == len(bank) > 2900 and not found.bad_images
    path = export_jsonl(bank, range(20), tmp_path, images=False)
    back = open_bank(f"jsonl:{path}", require_images=False)
    root = data / to.partition("/")[2]
    for at in range(20):
        one, other = back.question(at), bank.question(at)
        assert one == other and root / one.image.relative_to(tmp_path) == other.image
