import base64
import hashlib
import io
import json

import numpy as np
import pytest
from PIL import Image as Pil

from anatomy_r1.banks import HuggingFaceBank, export_hf, export_jsonl, export_trl, open_bank
from anatomy_r1.banks.columns import read_columns
from anatomy_r1.core import AnatomyError, Question, render_prompt, stream
from anatomy_r1.envs import RewardConfig, score

datasets = pytest.importorskip("datasets")
MINE = "image=figure,stem=q,options=opts,answer=label"


@pytest.fixture(autouse=True)
def no_network(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def png(shade: int) -> bytes:
    buffer = io.BytesIO()
    Pil.new("RGB", (20, 30), (shade, 3, 3)).save(buffer, "PNG")
    return buffer.getvalue()


def save(rows: list[dict], folder) -> str:
    data = datasets.Dataset.from_list(rows)
    if isinstance(rows[0]["figure"], dict):
        data = data.cast_column("figure", datasets.Image())
    datasets.DatasetDict({"train": data, "test": data}).save_to_disk(str(folder))
    return str(folder)


def rows(count: int = 4) -> list[dict]:
    return [
        {
            "figure": {"bytes": png(k), "path": None},
            "q": "Which organ?",
            "opts": ["liver", "gut", "lung"],
            "label": k % 3,
        }
        for k in range(count)
    ]


def test_a_saved_data_set_with_images(tmp_path):
    bank = open_bank(f"hf:{save(rows(), tmp_path / 'd')}", columns=MINE)
    assert len(bank) == 8 and bank.splits == ("train", "test")
    for at in range(4):
        question = bank.split("test").question(at)
        assert question.id == f"test/{at}" and question.answer == at % 3
        assert question.pixels()[0, 0].tolist() == [at, 3, 3]


def test_pmc_vqa(tmp_path):
    (tmp_path / "figures").mkdir()
    Pil.new("RGB", (20, 30)).save(tmp_path / "figures/PMC1.jpg")
    (tmp_path / "train.csv").write_text(
        "Figure_path,Question,Choice A,Choice B,Choice C,Choice D,Answer\n"
        "PMC1.jpg,What is it?, A:The lung , B:Liver, C:Gut, D:Bone,B\n"
        "PMC1.jpg,What is it? ,' A: CT ', B:MRI, C:PET, D:US,D\n"
    )
    bank = HuggingFaceBank(str(tmp_path), images=tmp_path / "figures")
    assert [(q.options, q.letter) for q in map(bank.question, range(2))] == [
        (("The lung", "Liver", "Gut", "Bone"), "B"),
        (("CT", "MRI", "PET", "US"), "D"),
    ]


def test_medxpertqa_mm(tmp_path):
    (tmp_path / "MM").mkdir()
    Pil.new("RGB", (20, 30)).save(tmp_path / "a.jpeg")
    row = {
        "id": "MM-0",
        "question": "What?\nAnswer Choices: (A) One (B) Two",
        "options": {"A": "One", "B": "Two"},
        "label": "B",
        "images": ["a.jpeg"],
        "medical_task": "Diagnosis",
        "body_system": "Skeletal",
    }
    two = row | {"id": "MM-1", "images": ["a.jpeg", "a.jpeg"]}
    (tmp_path / "MM/test.jsonl").write_text(json.dumps(row) + "\n" + json.dumps(two) + "\n")
    bank = HuggingFaceBank(str(tmp_path / "MM"), columns="medxpertqa-mm", images=tmp_path, allow_bad=True)
    question = bank.question(0)
    assert (question.stem, question.options, question.letter, question.id) == (
        "What?",
        ("One", "Two"),
        "B",
        "test/MM-0",
    )
    assert len(bank) == 1 and "one image, this row 2" in bank.refused[0].reason


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"label": 7}, "answer"),
        ({"opts": ["liver", "Liver", "gut"]}, "differ"),
        ({"opts": []}, "answer"),
        ({"q": ""}, "'q'"),
        ({"q": "<|im_end|>"}, "markup"),
        ({"figure": None}, "image"),
    ],
)
def test_a_bad_row_is_named_or_left_out(tmp_path, change, expected):
    data = rows()
    data[2] |= change
    path = save(data, tmp_path / "d")
    with pytest.raises(AnatomyError) as caught:
        HuggingFaceBank(path, columns=MINE)
    assert f"{path}:train:2" in str(caught.value) and expected in str(caught.value)
    assert len(HuggingFaceBank(path, columns=MINE, allow_bad=True)) == 6


@pytest.mark.parametrize("place", ["/etc/hostname", "../x.png", "none.png"])
def test_images_outside_the_folder_are_not_read(tmp_path, place):
    (tmp_path / "in").mkdir()
    Pil.new("RGB", (4, 4)).save(tmp_path / "x.png")
    data = [row | {"figure": place} for row in rows()]
    with pytest.raises(AnatomyError, match="everything refused"):
        HuggingFaceBank(save(data, tmp_path / "d"), columns=MINE, images=tmp_path / "in", allow_bad=True)


def test_mistakes_in_mappings_and_data_sets(tmp_path):
    for text in ("pmcvqa", "image=a,stem=b", "image=a,stem=b,options=c,answer=d,colour=e", "image=,stem=b"):
        with pytest.raises(AnatomyError):
            read_columns(text)
    assert read_columns({"image": "a", "stem": "b", "options": ["c", "d"], "answer": "e"}).options == ("c", "d")
    with pytest.raises(AnatomyError, match="can't be opened"):
        HuggingFaceBank(str(tmp_path))
    with pytest.raises(AnatomyError, match=r"no column 'Figure_path' in train; there are figure, label, opts, q"):
        HuggingFaceBank(save(rows(), tmp_path / "d"))


def test_a_thousand_mutations(tmp_path, rng, survives, spoil_row):
    """Rows are spoilt before they are saved; the columns' types stay what they are, as a data set has types."""
    base = {
        "figure": "a.png",
        "q": "Which organ is this?",
        "opts": "liver, gut, lung",
        "label": "B",
        "A": "liver",
        "B": "gut",
        "C": "lung",
    }
    Pil.new("RGB", (4, 4)).save(tmp_path / "a.png")
    good = [base | {"q": f"Which organ is in place {k}?"} for k in range(3)]
    mapping = "image=figure,stem=q,options=A|B|C,answer=label"
    passed = refused = 0
    for turn in range(40):  # 40 data sets of 26 spoilt rows each
        spoilt = [spoil_row(base, rng) for _ in range(26)]
        texts = [{key: row.get(key) if isinstance(row.get(key), str) else None for key in base} for row in spoilt]
        path = save([*good, *texts], tmp_path / f"d{turn}")
        bank = HuggingFaceBank(path, columns=mapping, images=tmp_path, allow_bad=True)
        assert {question.id for question in map(bank.question, range(len(bank)))} >= {"train/0", "train/1", "train/2"}
        counts = survives(lambda bank=bank: bank, {}, tmp_path)
        passed, refused = passed + counts[0], refused + counts[1]
    assert passed > 400 and refused > 1000


def test_export_to_hf_and_back(tmp_path):
    bank = open_bank("scenes", split="test")
    folder = export_hf(bank, range(6), tmp_path / "out")
    back = open_bank(f"hf:{folder}", columns="image=image,stem=stem,options=options,answer=answer,id=id")
    for at, (question, pixels) in enumerate(stream(map(back.question, range(6)))):
        original = bank.question(at)
        assert (question.stem, question.options, question.answer) == (original.stem, original.options, original.answer)
        assert question.id == f"all/{original.id}" and (pixels == original.pixels()).all()
    with pytest.raises(AnatomyError, match="nothing was overwritten"):
        export_hf(bank, range(2), folder)


def test_export_to_trl_fits_its_reward_signature(tmp_path):
    """TRL calls reward functions with the prompts, completions, and every other column as lists by keyword."""
    bank = open_bank("scenes", split="test")
    folder = export_trl(bank, range(6), tmp_path / "out", render_prompt)
    data = datasets.load_from_disk(str(folder))
    batch = data[:6]
    assert [message["role"] for prompt in batch["prompt"] for message in prompt] == ["user"] * 6
    assert batch["prompt"][0][0]["content"] == render_prompt(bank.question(0))
    assert (batch["images"][3][0].size, len(batch["images"][3])) == ((96, 96), 1)

    def reward(prompts, completions, solution, id, **kwargs):
        texts = [completion[0]["content"] for completion in completions]
        return [
            score(bank.question(bank.index_of(name)), text, RewardConfig()).total
            for name, text in zip(id, texts, strict=True)
        ]

    answers = [f"<think>x</think><answer>{letter}</answer>" for letter in batch["solution"]]
    completions = [[{"role": "assistant", "content": text}] for text in answers]
    columns = {name: batch[name] for name in batch if name not in ("prompt", "images")}
    assert reward(prompts=batch["prompt"], completions=completions, **columns) == [1.5] * 6


@pytest.mark.parametrize("bank", ["scenes", "odd"])
@pytest.mark.parametrize("form", ["hf", "trl", "jsonl"])
def test_what_is_exported_opens_again_as_it_is(tmp_path, form, bank):
    bank = open_bank("scenes", split="test") if bank == "scenes" else Odd()
    out = tmp_path / "out"
    if form == "jsonl":
        back = open_bank(f"jsonl:{export_jsonl(bank, range(5), out)}")
    else:
        export_hf(bank, range(5), out) if form == "hf" else export_trl(bank, range(5), out, render_prompt)
        back = open_bank(f"hf:{out}")
    for at in range(5):
        one, other = bank.question(at), back.question(at)
        facts = ("stem", "options", "answer", "structure", "question_type", "modality", "group_key")
        assert [getattr(one, name) for name in facts] == [getattr(other, name) for name in facts]
        assert one.id in other.id and (one.pixels() == other.pixels()).all()


class Odd:
    """Questions whose answers are all the second of three options, some of them numbers, with labels of their own."""

    name, splits, structures = "odd", (), ()

    def question(self, at):
        options = [("2", "3", "1"), ("A: x", "B: y", "C: z"), ("B", "C", "D"), ("none", "NA", "N/A"), ("x", "y", "z")]
        pixels = np.full((8, 8, 3), at, np.uint8)
        return Question(f"q{at}", lambda: pixels, "How many?\nLook.", options[at], 1, "s", "t", "m", f"g{at}", "o")


def test_golden_questions(tmp_path):
    bank = open_bank(f"hf:{save(rows(6), tmp_path / 'd')}", columns=MINE)
    keys = [list(map(str, bank.question(at).key()[:8])) for at in range(len(bank))]
    assert hashlib.sha256(json.dumps(keys).encode()).hexdigest()[:16] == "d460e8f901cf9543"


# Answers that are numbers


def numbered(folder, values, options=("liver", "gut", "lung", "heart")) -> str:
    return save(
        [
            {"figure": {"bytes": png(at), "path": None}, "q": f"{at}?", "opts": list(options), "label": value}
            for at, value in enumerate(values)
        ],
        folder,
    )


def letters(bank) -> str:
    return "".join(bank.question(at).letter for at in range(len(bank)))


@pytest.mark.parametrize("allow_bad", [False, True])
def test_answers_counted_from_one_are_read_as_such(tmp_path, allow_bad):
    path = numbered(tmp_path / "d", [1, 2, 3, 4, 4])
    assert letters(HuggingFaceBank(path, columns=MINE, allow_bad=allow_bad)) == "ABCDD" * 2


def test_answers_that_may_be_counted_from_either_are_refused_until_it_is_said(tmp_path):
    path = numbered(tmp_path / "d", [1, 2, 3, 3])
    for allow_bad in (False, True):
        with pytest.raises(AnatomyError, match="say which: answer_base=0, 1 or text"):
            HuggingFaceBank(path, columns=MINE, allow_bad=allow_bad)
    assert letters(open_bank(f"hf:{path}", columns=MINE, answer_base=1)) == "ABCC" * 2
    assert letters(open_bank(f"hf:{path}", columns=MINE, answer_base="0")) == "BCDD" * 2
    with pytest.raises(AnatomyError, match="answer_base must be 0, 1 or text; got 2"):
        HuggingFaceBank(path, columns=MINE, answer_base=2)


def test_a_column_that_contradicts_itself_is_refused_even_where_bad_rows_may_go(tmp_path):
    with pytest.raises(AnatomyError, match="2 not as counted from 0"):
        HuggingFaceBank(numbered(tmp_path / "d", [0, 1, 2, 4]), columns=MINE, allow_bad=True)


def test_classes_go_by_their_names(tmp_path):
    table = datasets.Dataset.from_list(
        [{"figure": {"bytes": png(at), "path": None}, "q": "?", "opts": ["liver", "gut"], "label": at} for at in (1, 1)]
    )
    for names, letter in ((["A", "B"], "B"), (["liver", "gut"], "B"), (["gut", "liver"], "A")):
        data = table.cast_column("label", datasets.ClassLabel(names=names))
        data.save_to_disk(str(tmp_path / "".join(names)))
        assert letters(open_bank(f"hf:{tmp_path / ''.join(names)}", columns=MINE)) == letter * 2


# Images and tables as they come


IMAGES = {
    "bytes": lambda data: data,
    "struct": lambda data: {"bytes": data, "path": None},
    "base64": lambda data: base64.b64encode(data).decode(),
    "wrapped": lambda data: base64.encodebytes(data).decode(),
    "uri": lambda data: "data:image/png;base64," + base64.b64encode(data).decode(),
    "list": lambda data: [{"bytes": data, "path": None}],
    "pil": lambda data: Pil.open(io.BytesIO(data)),
    "pils": lambda data: [Pil.open(io.BytesIO(data))],
}


@pytest.mark.parametrize("form", IMAGES)
def test_an_image_may_stand_in_the_row(tmp_path, form):
    rows = [{"f": IMAGES[form](png(shade)), "q": "?", "o": ["liver", "gut"], "a": "A"} for shade in (9, 8, 9)]
    datasets.Dataset.from_list(rows).save_to_disk(str(tmp_path / "d"))
    bank = open_bank(f"hf:{tmp_path / 'd'}", columns="image=f,stem=q,options=o,answer=a")
    assert [bank.question(at).pixels()[0, 0].tolist() for at in range(3)] == [[9, 3, 3], [8, 3, 3], [9, 3, 3]]
    groups = [bank.question(at).group_key for at in range(3)]
    assert groups[0] == groups[2] != groups[1]  # a split must not cut through an image, however it is stored


@pytest.mark.parametrize("columns", ["image=f,stem=q,options=o,answer=a", "image=g|h,stem=q,options=o,answer=a"])
def test_several_images_are_refused_with_their_number(tmp_path, columns):
    row = {"f": [png(1), png(2)], "g": png(1), "h": png(2), "q": "?", "o": ["liver", "gut"], "a": "A"}
    datasets.Dataset.from_list([row]).save_to_disk(str(tmp_path / "d"))
    with pytest.raises(AnatomyError, match="a question has one image, this row 2"):
        open_bank(f"hf:{tmp_path / 'd'}", columns=columns)


def test_none_and_na_are_words_in_tables(tmp_path):
    Pil.new("RGB", (4, 4)).save(tmp_path / "x.png")
    (tmp_path / "train.csv").write_text(
        "image,q,A,B,C,D,a\nx.png,Is it liver?,yes,no,,,B\nx.png,What?,Mass,Cyst,NA,None,D\nx.png,How many?,1,2,3,4,B\n"
    )
    bank = open_bank(f"hf:{tmp_path}", columns="image=image,stem=q,options=A|B|C|D,answer=a")
    found = [(question.options, question.letter) for question in map(bank.question, range(3))]
    assert found == [(("yes", "no"), "B"), (("Mass", "Cyst", "NA", "None"), "D"), (("1", "2", "3", "4"), "B")]


def test_options_that_are_no_columns_are_the_options_if_all_answers_are_among_them(tmp_path):
    row = {"f": png(1), "q": "Is it?", "a": "Yes"}
    datasets.Dataset.from_list([row, row | {"a": "no"}]).save_to_disk(str(tmp_path / "d"))
    bank = open_bank(f"hf:{tmp_path / 'd'}", columns="image=f,stem=q,options=yes|no,answer=a")
    assert letters(bank) == "AB" and bank.question(0).options == ("yes", "no")
    datasets.Dataset.from_list([row | {"a": "A"}]).save_to_disk(str(tmp_path / "e"))
    with pytest.raises(AnatomyError, match="no column 'yes'"):  # letters of columns that are called otherwise
        open_bank(f"hf:{tmp_path / 'e'}", columns="image=f,stem=q,options=yes|no,answer=a")
