import hashlib
import json
import shutil
from collections import Counter

import pytest

from anatomy_r1.banks import AnatomyR1Bank, open_bank
from anatomy_r1.banks.cholec45 import split_of
from anatomy_r1.banks.generate import grammar
from anatomy_r1.banks.released import read_prompt
from anatomy_r1.core import AnatomyError, normalise


@pytest.fixture(scope="module")
def bank(shared, frames):
    return AnatomyR1Bank(shared / "anatomy_r1", images=frames)


def test_all_three_thousand_rows_load_and_are_classified(bank):
    questions = [bank.question(i) for i in range(len(bank))]
    assert Counter(q.details["template"] for q in questions) == {
        "F": 1221,
        "A1": 371,
        "A2": 367,
        "O1": 362,
        "Z1": 314,
        "O2": 102,
        "A3": 97,
        "A4": 90,
        "Z2": 76,
    }
    assert len({q.id for q in questions}) == 3000
    assert bank.refused == ()


def test_rows_say_what_the_files_say(bank, shared):
    for name in ("GRPO", "GRPO-GDQA"):
        for number, row in enumerate(json.loads((shared / "anatomy_r1" / f"{name}.json").read_text())[::50]):
            question = bank.question(bank.index_of(f"{name}/{50 * number}"))
            assert question.letter == row["solution"]
            assert question.options[question.answer] == row["answer"]
            assert question.structure == row["answer"].lower()
            assert f"Question:\n{question.stem}\n" in row["instruction"] == question.details["prompt"]
            assert str(question.image).endswith(row["images"].strip())


def test_parts_of_the_stem_are_fields(bank):
    stem = "What is the name of the top-mid thing above the bottom-left anatomy?"
    details = next(dict(q.details) for q in map(bank.question, range(3000)) if q.stem == stem)
    del details["prompt"]
    assert details == {
        "template": "O1",
        "noun": "thing",
        "colour": None,
        "location": "top-mid",
        "component": None,
        "relations": [
            {
                "relation": "above",
                "wording": "above",
                "noun": "anatomy",
                "colour": None,
                "location": "bottom-left",
                "component": None,
            }
        ],
    }


def test_distractors_are_never_named_nor_right(bank):
    right: dict = {}
    for q in map(bank.question, range(3000)):
        right.setdefault((q.image, q.stem), set()).add(q.structure)
    for q in map(bank.question, range(3000)):
        wrong = {normalise(name) for name in q.distractors}
        assert not wrong & right[q.image, q.stem] and not wrong & grammar.parse(q.stem).named()
        assert wrong <= set(bank.structures)
    assert sum("also_right" in bank.question(i).details for i in range(3000)) == 8


def test_splits_are_by_video_and_share_nothing(bank):
    groups = [{q.group_key for q in map(part.question, range(len(part)))} for part in map(bank.split, bank.splits)]
    assert sum(map(len, groups)) == len(set.union(*groups)) == 38
    assert all(split_of(video) == split for split, videos in zip(bank.splits, groups, strict=True) for video in videos)


def test_same_questions_on_every_machine(bank):
    rows = [(q.id, q.stem, q.options, q.answer, q.structure, q.distractors) for q in map(bank.question, range(3000))]
    assert hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:16] == "97d34a68cd80a7be"


def test_images_may_be_a_list_and_keys_of_either_spelling(shared, frames, tmp_path):
    row = json.loads((shared / "anatomy_r1" / "GRPO-GDQA.json").read_text())[0]
    row["images"] = [f"  {row['images']}"]
    row["sft_prompt"] = row.pop("sft_instruction")
    (tmp_path / "mine.json").write_text(json.dumps([row]))
    assert len(open_bank(f"anatomy-r1:{tmp_path / 'mine.json'}", images=frames)) == 1


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"solution": "A", "answer": "Gut"}, "but the answer 'Gut' is option D"),
        ({"answer": "Spleen"}, "is not among"),
        ({"images": "../../VID01/000001.png"}, "no such file"),
        ({"images": "passwd"}, "expected a frame"),
        ({"images": ["a", "b"]}, "a question has one image, this row 2"),
        ({"sft_prompt": "Question:\nOther?\nAnatomy Options:\nA. Liver\nB. Gut"}, "asks another question"),
        ({"instruction": "Question:\nWhat?\nAnatomy Options:\nA. Gut\nC. Liver"}, "'AC'"),
        ({"instruction": "Question:\nWhat <|image_pad|>?\nAnatomy Options:\nA. Liver\nB. Gut"}, "markup"),
    ],
)
def test_a_bad_row_is_named_or_left_out(shared, frames, tmp_path, change, expected):
    rows = json.loads((shared / "anatomy_r1" / "GRPO-ASC-Learning.json").read_text())[:3]
    if "instruction" in change:
        rows[1] = {"instruction": change["instruction"], "solution": "B", "answer": "Gut", "images": rows[1]["images"]}
    else:
        rows[1] = rows[0] | change if "answer" in change else rows[1] | change
    path = tmp_path / "bad.json"
    path.write_text(json.dumps(rows))
    with pytest.raises(AnatomyError) as caught:
        AnatomyR1Bank(path, images=frames)
    assert f"{path}:1" in str(caught.value) and expected in str(caught.value)
    bank = AnatomyR1Bank(path, images=frames, allow_bad=True)
    assert len(bank) == 2 and [refusal.where for refusal in bank.refused] == [f"{path}:1"]


def test_a_thousand_mutations(shared, frames, tmp_path, rng, survives, spoil_bytes, spoil_row):
    rows = json.loads((shared / "anatomy_r1" / "GRPO-GDQA.json").read_text())[:4]
    path = tmp_path / "GRPO-GDQA.json"
    path.write_text(json.dumps(rows))
    originals = {q.id: q for q in map(AnatomyR1Bank(path, images=frames).question, range(4))}
    whole, passed, refused = path.read_bytes(), 0, 0
    for turn in range(1200):
        data = (
            spoil_bytes(whole, rng) if turn % 2 else json.dumps([*rows[:2], spoil_row(rows[2], rng), rows[3]]).encode()
        )
        path.write_bytes(data)
        counts = survives(lambda: AnatomyR1Bank(path, images=frames, allow_bad=True), originals, frames)
        passed, refused = passed + counts[0], refused + counts[1]
    assert passed > 1500 and refused > 800


def test_no_frames(shared, tmp_path):
    with pytest.raises(AnatomyError, match="no frames"):
        AnatomyR1Bank(shared / "anatomy_r1", images=tmp_path)
    shutil.copy(shared / "anatomy_r1" / "GRPO.json", tmp_path)
    (tmp_path / "VID01").mkdir()
    with pytest.raises(AnatomyError, match="everything refused"):
        AnatomyR1Bank(tmp_path)


def test_prompt_without_options_is_refused():
    for text in ("", "Question:\nWhat?\n", "Question:\nWhat?\nAnatomy Options:\n", "x" * 10_000):
        with pytest.raises(AnatomyError):
            read_prompt(text)
