import hashlib
import json
from collections import Counter

import pytest

from anatomy_r1.banks import OmniMedVQABank, open_bank
from anatomy_r1.banks.omnimedvqa import merge_equal, read_problem, tidy
from anatomy_r1.core import AnatomyError

NATIVE = {
    "dataset": "ACRIMA",
    "question_id": "ACRIMA_0000",
    "question_type": "Anatomy Identification",
    "question": "What organ is it?",
    "gt_answer": "Lung.",
    "image_path": "Images/ACRIMA/a.png",
    "option_A": "lung nodule",
    "option_B": "Lung.",
    "option_C": "Liver",
    "option_D": "Heart",
    "modality_type": "CT(Computed Tomography)",
}


@pytest.fixture(scope="module")
def released(shared, medical_images):
    return OmniMedVQABank(shared / "omnimedvqa", images=medical_images)


@pytest.fixture
def native(tmp_path, stand_in):
    """The data set's own layout: two files, five rows, three images."""
    for name in ("ACRIMA/a", "ACRIMA/b", "Chest CT/c"):
        stand_in(tmp_path / f"Images/{name}.png")
    rows = [NATIVE | {"question_id": f"ACRIMA_{k}", "image_path": f"Images/ACRIMA/{'ab'[k % 2]}.png"} for k in range(4)]
    other = NATIVE | {
        "dataset": "Chest CT",
        "image_path": "Images/Chest CT/c.png",
        "question_type": "Disease Diagnosis",
    }
    other["modality"] = other.pop("modality_type")
    del other["option_D"]
    for folder, name, value in (("Open-access", "ACRIMA", rows), ("Restricted-access", "Chest CT", [other])):
        path = tmp_path / "QA_information" / folder / f"{name}.json"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(value))
    return tmp_path


def test_all_rows_of_medr1_parse_with_one_right_option(released, shared):
    assert len(released) == 5403 and released.refused == () and released.splits == ("test",)
    rows = [row for file in sorted((shared / "omnimedvqa").glob("*.json")) for row in json.loads(file.read_text())]
    for row, question in zip(rows, map(released.question, range(5403)), strict=True):
        letter = row["solution"].split()[1]
        assert f" {letter}){question.options[question.answer]}" in row["problem"]
        assert row["problem"].startswith(question.stem) and str(question.image).endswith(row["image"])


def test_repeated_wrong_options_are_left_out_and_reported(released):
    merged = [q for q in map(released.question, range(5403)) if "merged_options" in q.details]
    assert len(merged) == 16
    assert [q.id for q in merged][:2] == [f"medr1_anatomy_identification_test/{at}" for at in (586, 611)]
    assert all(len(q.options) == 3 and len(q.details["merged_options"]) == 1 for q in merged)


def test_normalised_options_hide_the_letter_case_that_tells(shared, medical_images, released):
    def lower_case_bets(bank):
        cases = [[option[0].islower() for option in q.options] for q in map(bank.question, range(len(bank)))]
        return [case.index(True) == bank.question(at).answer for at, case in enumerate(cases) if sum(case) == 1]

    assert lower_case_bets(released) == [True] * 4128
    plain = open_bank(f"omnimedvqa:{shared / 'omnimedvqa'}", images=medical_images, options="normalised")
    assert lower_case_bets(plain) == []
    for at in range(5403):
        one, other = released.question(at), plain.question(at)
        assert (one.stem, one.answer, one.structure) == (other.stem, other.answer, other.structure)
        assert not any(option.endswith(".") for option in other.options)
    assert tidy(" MRI of the  Left_Knee (ACL).") == "MRI of the left_knee (ACL)"


def test_same_questions_on_every_machine(shared, medical_images):
    bank = OmniMedVQABank(shared / "omnimedvqa", images=medical_images, options="normalised", grouping="image", seed=3)
    rows = [
        (split, q.id, q.stem, q.options, q.answer)
        for split in bank.splits
        for q in map(bank.split(split).question, range(len(bank.split(split))))
    ]
    assert hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:16] == "b347ed3fffaba8b1"


@pytest.mark.parametrize("grouping", ["image", "dataset"])
def test_new_splits_cut_no_group(shared, medical_images, grouping):
    bank = OmniMedVQABank(shared / "omnimedvqa", images=medical_images, grouping=grouping)
    parts = [{q.group_key for q in map(part.question, range(len(part)))} for part in map(bank.split, bank.splits)]
    assert len(parts) >= 2 and sum(map(len, parts)) == len(set.union(*parts))
    assert sum(len(bank.split(split)) for split in bank.splits) == 5403
    if grouping == "image":
        assert 0.77 < len(bank.split("train")) / 5403 < 0.83


def test_native_files(native):
    bank = OmniMedVQABank(native)
    assert [bank.question(i).id for i in range(5)] == [
        *(f"ACRIMA/ACRIMA_{k}" for k in range(4)),
        "Chest CT/ACRIMA_0000",
    ]
    assert Counter(len(bank.question(i).options) for i in range(5)) == {4: 4, 3: 1}
    question = bank.question(4)
    assert (question.letter, question.structure, question.modality) == ("B", "lung", "CT(Computed Tomography)")
    assert question.pixels().shape == (24, 40, 3)


def test_filters(native):
    assert len(OmniMedVQABank(native, question_type="disease diagnosis")) == 1
    assert len(OmniMedVQABank(native, dataset="acrima, chest ct")) == 5
    with pytest.raises(AnatomyError, match=r"There is question type: Anatomy Identification, Disease Diagnosis\."):
        OmniMedVQABank(native, question_type="Anatomy")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"gt_answer": "Spleen"}, "not among"),
        ({"gt_answer": "lung", "option_C": "Lung"}, "twice among"),
        ({"option_C": "LUNG"}, "two right options"),
        ({"option_B": ""}, "'option_B'"),
        ({"option_C": None}, "'option_C'"),
        ({"option_B": None, "option_C": None, "option_D": None}, "at least 2 options"),
        ({"question_id": 7}, "'question_id'"),
        ({"image_path": "Images/ACRIMA/none.png"}, "no such file"),
        ({"image_path": "Images/../../etc/passwd"}, "plain path"),
        ({"image_path": "/etc/passwd"}, "plain path"),
        ({"question": "Look <|image_pad|>"}, "markup"),
        ({"question": "x" * 30_000}, "20,000"),
    ],
)
def test_a_bad_row_is_named_or_left_out(native, change, expected):
    path = native / "QA_information/Open-access/ACRIMA.json"
    rows = json.loads(path.read_text())
    rows[2] |= change
    path.write_text(json.dumps(rows))
    with pytest.raises(AnatomyError) as caught:
        OmniMedVQABank(native)
    assert f"{path}:2" in str(caught.value) and expected in str(caught.value)
    bank = OmniMedVQABank(native, allow_bad=True)
    assert (len(bank), len(bank.refused)) == (4, 1)


def test_a_link_out_of_the_folder_is_no_image(native, tmp_path_factory, stand_in):
    outside = tmp_path_factory.mktemp("outside") / "x.png"
    stand_in(outside)
    (native / "Images/ACRIMA/b.png").unlink()
    (native / "Images/ACRIMA/b.png").symlink_to(outside)
    assert len(OmniMedVQABank(native, allow_bad=True)) == 3


def test_problem_strings():
    text = "Which? A)Lungs, left (A) and right, B)Near-infrared (NIRS), C)No, it's normal"
    assert read_problem(text) == ("Which?", ("Lungs, left (A) and right", "Near-infrared (NIRS)", "No, it's normal"))
    for bad in ("Which?", "Which? A)x, C)y", "Which? A)x, B)y, B)z", "A)x, B)y"):
        with pytest.raises(AnatomyError):
            read_problem(bad)
    assert merge_equal(("Gut", "gut.", "Liver"), 2) == (("Gut", "Liver"), 1, ("gut.",))


def test_a_thousand_mutations_of_native_files(native, rng, survives, spoil_bytes, spoil_row):
    path = native / "QA_information/Open-access/ACRIMA.json"
    rows, whole = json.loads(path.read_text()), path.read_bytes()
    bank = OmniMedVQABank(native)
    originals = {q.id: q for q in map(bank.question, range(5))}
    passed = refused = 0
    for turn in range(1100):
        spoilt = json.dumps([*rows[:2], spoil_row(rows[2], rng), rows[3]]).encode()
        path.write_bytes(spoil_bytes(whole, rng) if turn % 2 else spoilt)
        counts = survives(lambda: OmniMedVQABank(native, allow_bad=True), originals, native)
        passed, refused = passed + counts[0], refused + counts[1]
    assert passed > 2500 and refused > 600


def test_a_thousand_mutations_of_medr1_files(shared, medical_images, tmp_path, rng, survives, spoil_bytes, spoil_row):
    rows = json.loads((shared / "omnimedvqa/medr1_ultrasound_test.json").read_text())[443:449]
    path = tmp_path / "ultrasound_test.json"
    path.write_text(json.dumps(rows))
    whole = path.read_bytes()
    passed = refused = 0
    for turn in range(1100):
        spoilt = json.dumps([*rows[:2], spoil_row(rows[2], rng), *rows[3:]]).encode()
        path.write_bytes(spoil_bytes(whole, rng) if turn % 2 else spoilt)
        # no originals: a letter is all that says which option is right, so a changed one can't be told
        counts = survives(lambda: OmniMedVQABank(path, images=medical_images, allow_bad=True), {}, medical_images)
        passed, refused = passed + counts[0], refused + counts[1]
    assert passed > 3000 and refused > 600


@pytest.mark.parametrize(
    "change",
    [
        {"gt_answer": "B"},
        {"gt_answer": "(b)"},
        {"option_A": 1, "option_B": 2, "option_C": 3, "option_D": 4, "gt_answer": 2},
        {"option_A": 1.5, "option_B": 2.5, "option_C": 3.5, "option_D": None, "gt_answer": 2.5},
    ],
)
def test_answers_as_letters_and_options_as_numbers(tmp_path, stand_in, change):
    stand_in(tmp_path / "Images/a.png")
    row = {"dataset": "X", "question_id": "1", "question_type": "Anatomy Identification", "question": "What?"}
    row |= {"option_A": "Liver", "option_B": "Lung", "option_C": "Heart", "option_D": "Gut", "modality_type": "CT"}
    (tmp_path / "QA_information").mkdir()
    (tmp_path / "QA_information/X.json").write_text(json.dumps([row | {"image_path": "Images/a.png"} | change]))
    question = OmniMedVQABank(tmp_path).question(0)
    assert question.letter == "B" and all(isinstance(option, str) for option in question.options)
