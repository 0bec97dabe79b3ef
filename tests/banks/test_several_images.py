"""A question has one image; rows with several are refused with their number, whatever bank and form they come in."""

import base64
import io
import json

import pytest
from PIL import Image as Pil

from anatomy_r1.banks import open_bank
from anatomy_r1.core import AnatomyError

datasets = pytest.importorskip("datasets")
COLUMNS = "image=image,stem=q,options=A|B,answer=a"
PAIR = ["a.png", "b.png"]


def png():
    buffer = io.BytesIO()
    Pil.new("RGB", (8, 8)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def folder(tmp_path):
    for name in PAIR:
        (tmp_path / name).write_bytes(png())
    return tmp_path


def hf(folder, row):
    datasets.Dataset.from_list([row]).save_to_disk(str(folder / "d"))
    return f"hf:{folder / 'd'}"


def csv(folder, cell):
    (folder / "train.csv").write_text(f'image,q,A,B,a\n"{cell}",Which?,liver,gut,A\n')
    return f"hf:{folder}", {"columns": COLUMNS}


def jsonl(folder, **change):
    row = {"id": "q", "image": "a.png", "stem": "Which?", "options": ["liver", "gut"], "answer": 0} | change
    (folder / "q.jsonl").write_text(json.dumps({key: value for key, value in row.items() if value is not None}))
    return f"jsonl:{folder / 'q.jsonl'}", {}


def native(folder, **change):
    row = {"dataset": "X", "question_id": "1", "question_type": "Anatomy Identification", "question": "What?"}
    row |= {"gt_answer": "Liver", "image_path": "a.png", "option_A": "Liver", "option_B": "Lung", "modality_type": "CT"}
    (folder / "x.json").write_text(json.dumps([row | change]))
    return f"omnimedvqa:{folder}", {"images": folder}


def medr1(folder):
    row = {"image": PAIR, "problem": "What? A)Liver, B)Lung", "solution": "<answer> A </answer>"}
    (folder / "CT_train.json").write_text(json.dumps([row]))
    return f"omnimedvqa:{folder}", {"images": folder}


def released(folder):
    (folder / "VID66").mkdir()
    row = {"instruction": "Question:\nWhat?\nAnatomy Options:\nA. liver\nB. gut", "solution": "A", "answer": "liver"}
    (folder / "GRPO.json").write_text(json.dumps([row | {"images": ["VID66/000001.png", "VID66/000002.png"]}]))
    return f"anatomy-r1:{folder}", {"images": folder}


def exported(folder):
    """As ``bank export --to trl`` writes, but with two images."""
    image = {"bytes": png(), "path": None}
    parts = [{"type": "image", "text": None}, {"type": "image", "text": None}, {"type": "text", "text": "Which?"}]
    row = {"prompt": [{"role": "user", "content": parts}], "images": [image, image], "solution": "A"}
    row |= {"options": ["liver", "gut"], "id": "q", "structure": "liver", "question_type": "x", "modality": "CT"}
    return hf(folder, row | {"group_key": "g"}), {}


TWO = base64.b64encode(png()).decode()
ROW = {"q": "Which?", "A": "liver", "B": "gut", "a": "A"}
FORMS = {
    "hf: a list": lambda f: (hf(f, ROW | {"image": [png(), png()]}), {"columns": COLUMNS}),
    "hf: columns": lambda f: (hf(f, ROW | {"i": png(), "j": png()}), {"columns": COLUMNS.replace("=image", "=i|j")}),
    "hf: a column beside": lambda f: (
        hf(f, ROW | {"image_1": png(), "image_2": png(), "image_3": None}),
        {"columns": COLUMNS.replace("=image", "=image_1")},
    ),
    "hf: tags": lambda f: (hf(f, ROW | {"image": png(), "q": "<image><image>Which?"}), {"columns": COLUMNS}),
    "hf: numbered tags": lambda f: (
        hf(f, ROW | {"image": png(), "q": "<image 1> or <image 2>?"}),
        {"columns": COLUMNS},
    ),
    "csv: JSON": lambda f: csv(f, '[""a.png"", ""b.png""]'),
    "csv: Python": lambda f: csv(f, "['a.png', 'b.png']"),
    "csv: commas": lambda f: csv(f, "a.png, b.png"),
    "csv: semicolons": lambda f: csv(f, "a.png;b.png"),
    "jsonl: image": lambda f: jsonl(f, image=PAIR),
    "jsonl: images": lambda f: jsonl(f, image=None, images=PAIR),
    "jsonl: base64": lambda f: jsonl(f, image=[TWO, TWO]),
    "jsonl: tags": lambda f: jsonl(f, stem="<image>\n<image>\nWhich?"),
    "omnimedvqa": lambda f: native(f, image_path=PAIR),
    "med-r1": medr1,
    "anatomy-r1": released,
    "trl": exported,
}


@pytest.mark.parametrize("form", FORMS)
def test_several_images_are_refused_with_their_number(folder, form):
    spec, options = FORMS[form](folder)
    with pytest.raises(AnatomyError, match=r"a question has one image, this row 2|about one image, this one names 2"):
        open_bank(spec, **options)


SINGLE = {
    "csv": lambda f: csv(f, "['a.png']"),
    "jsonl": lambda f: jsonl(f, image=["a.png"]),
    "omnimedvqa": lambda f: native(f, image_path=["a.png"]),
    "numbered tag": lambda f: jsonl(f, stem="<image 1> Which?"),
    "columns": lambda f: (
        hf(f, ROW | {"image_1": png(), "image_2": None}),
        {"columns": COLUMNS.replace("=image", "=image_1")},
    ),
}


@pytest.mark.parametrize("form", SINGLE)
def test_a_list_of_one_is_one_image(folder, form):
    spec, options = SINGLE[form](folder)
    question = open_bank(spec, **options).question(0)
    assert question.pixels().shape == (8, 8, 3) and "<" not in question.stem
