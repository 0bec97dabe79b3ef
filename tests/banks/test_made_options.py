"""Options made for closed questions that came with their answer alone (SLAKE, VQA-RAD, PathVQA)."""

import io
import json
from collections import Counter

import numpy as np
import pytest
from PIL import Image as Pil

from anatomy_r1.banks import open_bank
from anatomy_r1.banks.made_options import AnswerPool
from anatomy_r1.core import AnatomyError, normalise
from anatomy_r1.evaluation.audits import audit

datasets = pytest.importorskip("datasets")
ORGANS = ("Liver", "left lung", "Spleen", "right kidney", "heart", "lung", "bladder")


def filled(n_options=4, seed=0):
    pool = AnswerPool(n_options, seed)
    for at in range(70):
        pool.see(("organ", "What organ is shown?"), ORGANS[at % 7])
        pool.see(("count", "How many kidneys are there?"), at % 4)
        pool.see(("organ", "Is the liver shown?"), ("yes", "No")[at % 2])
        pool.see(("plane", "What plane is this?"), ("Axial", "Coronal")[at % 2])
    return pool


def test_options_are_answers_of_the_same_kind():
    pool = filled()
    options, right = pool.options(("organ", "What organ is shown?"), "liver", "q1")
    assert options[right] == "Liver" and len(options) == 4
    assert {normalise(option) for option in options} <= set(map(normalise, ORGANS))
    options, right = pool.options(("count", "How many kidneys are there?"), 2, "q2")
    assert options[right] == "2" and set(options) == {"0", "1", "2", "3"}
    options, right = pool.options(("organ", "Is the liver shown?"), "no", "q3")
    assert set(options) == {"Yes", "No"} and options[right] == "No"
    options, _ = pool.options(("plane", "What plane is this?"), "Axial", "q4")
    assert "Coronal" in options and len(options) == 4  # too few planes: the others are of a wider kind


def test_no_wrong_option_is_a_part_of_the_right_one_in_words():
    pool = filled()
    for at in range(60):
        options, _ = pool.options(("organ", "What organ is shown?"), "left lung", f"q{at}")
        assert "Lung" not in options


def test_options_are_the_same_every_time_and_differ_by_seed():
    asked = (("organ", "What organ is shown?"), "Heart")
    first = [filled().options(*asked, f"q{at}") for at in range(20)]
    assert first == [filled().options(*asked, f"q{at}") for at in range(20)]
    assert first != [filled(seed=1).options(*asked, f"q{at}") for at in range(20)]
    places = Counter(right for _, right in first)
    assert len(places) == 4


def test_an_answer_alone_of_its_kind_and_a_blank_are_refused():
    pool = AnswerPool()
    pool.see(("", "What?"), "Liver")
    with pytest.raises(AnatomyError, match="no other answer of its kind"):
        pool.options(("", "What?"), "Liver", "q")
    with pytest.raises(AnatomyError, match="expected text"):
        pool.options(("", "What?"), None, "q")


def picture(shade):
    buffer = io.BytesIO()
    Pil.new("RGB", (8, 8), (shade, 3, 3)).save(buffer, "PNG")
    return {"bytes": buffer.getvalue(), "path": None}


def test_slake_s_layout(tmp_path):
    (tmp_path / "imgs").mkdir()
    Pil.new("RGB", (8, 8)).save(tmp_path / "imgs/source.jpg")
    row = {
        "img_id": 1,
        "img_name": "source.jpg",
        "q_lang": "en",
        "location": "Abdomen",
        "modality": "MRI",
        "answer_type": "OPEN",
        "base_type": "vqa",
        "content_type": "Organ",
        "triple": ["_", "_"],
    }
    rows = [row | {"qid": at, "question": "Which organ is largest?", "answer": ORGANS[at]} for at in range(5)]
    rows.append(row | {"qid": 9, "q_lang": "zh", "question": "图中最大的器官是什么？", "answer": "肝脏"})
    for split in ("train", "validation", "test"):
        (tmp_path / f"{split}.json").write_text(json.dumps([one | {"qid": f"{split}{one['qid']}"} for one in rows]))
    bank = open_bank(f"hf:{tmp_path}", columns="slake", images=tmp_path / "imgs")
    assert len(bank) == 15 and bank.splits == ("train", "validation", "test")
    question = bank.question(1)
    assert question.options[question.answer] == "Left lung" and question.modality == "MRI"
    assert question.question_type == "Organ" and question.pixels().shape == (8, 8, 3)


@pytest.mark.parametrize("columns", ["vqa-rad", "image=image,stem=question,answer=answer"])
def test_vqa_rad_s_layout_and_its_blind_audit(tmp_path, columns):
    rng = np.random.default_rng(0)
    rows = [
        {"image": picture(at % 50), "question": "Which organ is abnormal?", "answer": str(rng.choice(ORGANS))}
        for at in range(200)
    ]
    data = datasets.Dataset.from_list(rows).cast_column("image", datasets.Image())
    datasets.DatasetDict({"train": data}).save_to_disk(str(tmp_path / "d"))
    found = audit(open_bank(f"hf:{tmp_path / 'd'}", columns=columns))
    assert found.groups == 50 and found.too_few is None
    for rule in ("majority", "longest", "letter", "odd-case"):  # options are drawn as often as they are answers
        assert found.rules[rule].ci_low < 0.27, (rule, found.rules[rule])


def test_tens_of_thousands_of_answers_are_no_burden():
    pool = AnswerPool()
    answers = [f"finding {at % 6000} of {at % 7}" for at in range(30_000)]
    for answer in answers:
        pool.see(("", "What is shown?"), answer)
    for at in range(0, 30_000, 10):
        options, right = pool.options(("", "What is shown?"), answers[at], f"q{at}")
        assert len(options) == 4 and normalise(options[right]) == answers[at]
