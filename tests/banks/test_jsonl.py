import base64
import io
import json
import os
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Pil

from anatomy_r1.banks import JsonlBank, export_jsonl, open_bank
from anatomy_r1.core import AnatomyError, Question, find_markup, normalise

ROW = {"id": "q1", "image": "a.png", "stem": "Which organ is this?", "options": ["liver", "gut", "B cell"], "answer": 1}


@pytest.fixture
def folder(tmp_path) -> Path:
    Pil.new("RGB", (4, 3), (1, 2, 3)).save(tmp_path / "a.png")
    return tmp_path


def write(folder: Path, *rows, name: str = "bank.jsonl") -> Path:
    path = folder / name
    lines = [row if isinstance(row, bytes) else json.dumps(row).encode() for row in rows]
    path.write_bytes(b"".join(line + b"\n" for line in lines))
    return path


def refused(path: Path, *parts: str, **options) -> None:
    with pytest.raises(AnatomyError) as caught:
        JsonlBank(path, **options)
    message = str(caught.value)
    assert all(part in message for part in (str(path), *parts)), message
    assert len(message.splitlines()) <= 2 and len(message) < 600


# What is written is read


class ListBank:
    name, splits, structures = "list", ("train",), ()

    def __init__(self, questions: list[Question]) -> None:
        self.questions = questions

    def __len__(self) -> int:
        return len(self.questions)

    def question(self, index: int) -> Question:
        return self.questions[index]

    def index_of(self, question_id: str) -> int:
        return [question.id for question in self.questions].index(question_id)

    def split(self, name: str) -> "ListBank":
        return self


LINE_ENDS = "\u2028\u2029\x85\r\n"
# Questions hold no other control codes (Cc): with them, most of what is drawn would be thrown away.
characters = st.one_of(st.characters(exclude_categories=["Cs", "Cc"]), st.sampled_from(LINE_ENDS + '\t"\\{}_.'))
words = st.text(characters, min_size=1, max_size=20).filter(lambda text: normalise(text) and not find_markup(text))
anything = st.text(characters, max_size=8).filter(lambda text: not find_markup(text))
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False) | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=6,
)


@st.composite
def some_questions(draw) -> list[Question]:
    questions = []
    for name in draw(st.lists(words, min_size=1, max_size=4, unique=True)):
        options = draw(st.lists(words, min_size=2, max_size=6, unique_by=normalise))
        right = draw(st.integers(0, len(options) - 1))
        wrong = draw(st.lists(words.filter(lambda text, right=options[right]: normalise(text) != normalise(right))))
        height, width = draw(st.tuples(st.integers(1, 5), st.integers(1, 5)))
        pixels = np.random.default_rng(draw(st.integers(0, 3))).integers(0, 256, (height, width, 3), dtype=np.uint8)
        questions.append(
            Question(
                name,
                lambda pixels=pixels: pixels,
                draw(words),
                tuple(options),
                right,
                draw(words),
                draw(anything),
                draw(anything),
                draw(anything),
                draw(anything),
                tuple(wrong),
                draw(st.dictionaries(words, values, max_size=3)),
            )
        )
    return questions


@given(some_questions())
@settings(max_examples=40, deadline=None)
def test_export_then_load_gives_equal_questions_and_pixels(questions):
    with tempfile.TemporaryDirectory() as folder:
        path = export_jsonl(ListBank(questions), range(len(questions)), folder)
        bank = JsonlBank(path)
        assert [bank.question(index) for index in range(len(bank))] == questions
        for index, question in enumerate(questions):
            assert (bank.question(index).pixels() == question.pixels()).all()
            assert bank.index_of(question.id) == index


def test_scenes_survive_the_round_trip(tmp_path):
    bank = open_bank("scenes", split="test")
    path = export_jsonl(bank, [5, 3, 900], tmp_path / "out", split="test")
    again = open_bank(f"jsonl:{path}", split="test")
    for index, original in enumerate([5, 3, 900]):
        assert again.question(index) == bank.question(original)
        assert (again.question(index).pixels() == bank.question(original).pixels()).all()


def test_equal_images_are_written_once(tmp_path):
    pixels = np.full((4, 4, 3), 7, np.uint8)
    make = lambda name: Question(name, lambda: pixels, "?", ("a", "b"), 0, "a", "", "", "", "")  # noqa: E731
    export_jsonl(ListBank([make("x"), make("y")]), [0, 1], tmp_path)
    assert len(list((tmp_path / "images").iterdir())) == 1


def test_export_is_whole_or_absent_and_never_overwrites(tmp_path):
    good = Question("x", lambda: np.zeros((2, 2, 3), np.uint8), "?", ("a", "b"), 0, "a", "", "", "", "")
    bad = Question("y", good.image, "?", ("a", "b"), 0, "a", "", "", "", "", details={"x": float("nan")})
    with pytest.raises(AnatomyError, match="'y' can't be written as JSON"):
        export_jsonl(ListBank([good, bad]), [0, 1], tmp_path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["images"]
    path = export_jsonl(ListBank([good]), [0], tmp_path)
    before = path.read_bytes()
    with pytest.raises(AnatomyError, match="already exists"):
        export_jsonl(ListBank([good]), [0], tmp_path)
    assert path.read_bytes() == before


# What may be written


def test_fields_that_are_left_out_have_defaults(folder):
    question = JsonlBank(write(folder, ROW)).question(0)
    assert (question.structure, question.group_key, question.source) == ("gut", "a.png", "bank.jsonl")
    assert (question.question_type, question.modality, question.distractors, question.details) == ("", "", (), {})
    assert question.pixels().shape == (3, 4, 3) and (question.pixels() == (1, 2, 3)).all()


@pytest.mark.parametrize("answer, index", [(0, 0), ("A", 0), ("C", 2), ("Gut.", 1), ("b_cell", 2)])
def test_answer_as_index_letter_or_text(folder, answer, index):
    assert JsonlBank(write(folder, ROW | {"answer": answer})).question(0).answer == index


def test_byte_order_mark_crlf_blank_lines_and_odd_line_separators(folder):
    stem = "one\u2028two\x85three\u2029"
    lines = [json.dumps(ROW | {"id": name, "stem": stem}, ensure_ascii=False).encode() for name in "abc"]
    path = folder / "bank.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + lines[0] + b"\r\n\r\n" + lines[1] + b"\n  \n" + lines[2])
    bank = JsonlBank(path)
    assert [bank.question(index).id for index in range(len(bank))] == ["a", "b", "c"]
    assert bank.question(2).stem == stem


def test_splits(folder):
    rows = [ROW | {"id": str(k), "split": ("train", "test")[k % 2]} for k in range(5)]
    path = write(folder, *rows)
    bank = JsonlBank(path)
    assert bank.splits == ("train", "test") and len(bank) == 5
    test = open_bank(f"jsonl:{path}", split="test")
    assert [test.question(index).id for index in range(len(test))] == ["1", "3"]
    assert test.index_of("3") == 1 and len(JsonlBank(path, split="train")) == 3
    with pytest.raises(AnatomyError, match="no question has the id '2'"):
        test.index_of("2")
    with pytest.raises(AnatomyError, match="no split 'dev', only train, test"):
        bank.split("dev")
    with pytest.raises(IndexError):
        test.question(2)


def test_without_split_fields_there_is_one_split(folder):
    bank = JsonlBank(write(folder, ROW))
    assert bank.splits == ("all",) and len(bank.split("all")) == 1
    with pytest.raises(AnatomyError, match='no split \'train\', only all; add "split": "train"'):
        bank.split("train")


def test_structures_are_all_that_can_be_options(folder):
    rows = [ROW | {"distractors": ["spleen"]}, ROW | {"id": "q2", "options": ["aorta", "gut"], "structure": "bowel"}]
    assert JsonlBank(write(folder, *rows)).structures == ("B cell", "aorta", "bowel", "gut", "liver", "spleen")


# What is refused


@pytest.mark.parametrize(
    "line, parts",
    [
        (b'{"id": "q2", ', ["broken JSON"]),
        (b"[1, 2]", ["expected a JSON object", "[1, 2]"]),
        (b"null", ["expected a JSON object"]),
        (b'{"id": "q2"} {"id": "q3"}', ["broken JSON", "Extra data"]),
        (b'{"id": "q2", "id": "q3"}', ["broken JSON", "twice"]),
        (b'{"id": "q2", "answer": NaN}', ["broken JSON", "NaN"]),
        (b'{"id": "q2", "answer": -1e999}', ["broken JSON", "-1e999"]),
        (b'{"id": ' + b"9" * 5000 + b"}", ["broken JSON"]),
        (b"\x00\x00\x00", ["broken JSON"]),
        (b'{"id": "q\x00"}', ["broken JSON"]),
        (b'{"id": "caf\xe9"}', ["not UTF-8", "byte 12"]),
        (b"[" * 200_000, ["nested too deeply"]),
        (b'{"id": "' + b"x" * 10_000_000 + b'"}', ["longer than 4,000,000 bytes"]),
    ],
)
def test_lines_that_are_no_object(folder, line, parts):
    refused(write(folder, ROW, line), ":2: ", *parts)


@pytest.mark.parametrize("field", ["id", "image", "stem", "options", "answer"])
def test_missing_field(folder, field):
    row = {key: value for key, value in ROW.items() if key != field}
    refused(write(folder, ROW | {"id": "q0"}, row), ":2: ", f"field '{field}' is missing")


@pytest.mark.parametrize(
    "changes, parts",
    [
        ({"id": [7]}, ["'id'", "expected text, got [7]"]),
        ({"id": " "}, ["'id'", "expected text"]),
        ({"stem": None}, ["'stem'", "expected text, got None"]),
        ({"stem": ["x"] * 1000}, ["'stem'", "expected text"]),
        ({"options": "liver, gut"}, ["'options'", "list of texts"]),
        ({"options": ["liver", {"x": 3}]}, ["'options'", "got {'x': 3}"]),
        ({"options": ["liver", ""]}, ["'options'", "expected text"]),
        ({"options": []}, ["'answer'"]),
        ({"options": ["gut"], "answer": 0}, ["2 to 26 options"]),
        ({"options": ["Gut_", "gut."], "answer": 0}, ["must differ"]),
        ({"answer": 3}, ["'answer'", "got 3"]),
        ({"answer": -1}, ["'answer'", "got -1"]),
        ({"answer": True}, ["'answer'", "got True"]),
        ({"answer": 1.5}, ["'answer'", "got 1.5"]),
        ({"answer": None}, ["'answer'", "got None"]),
        ({"answer": "spleen"}, ["'answer'", "spleen", "liver"]),
        ({"answer": "D"}, ["'answer'", "'D'"]),
        ({"options": ["B", "A"], "answer": "A"}, ["'answer'", "exactly one"]),
        ({"structure": ""}, ["'structure'", "expected text"]),
        ({"split": 1}, ["'split'", "expected text"]),
        ({"details": [1]}, ["'details'", "expected an object"]),
        ({"distractors": ["spleen", "GUT"]}, ["'distractors'", "'gut' is the right one"]),
        ({"distractor": ["spleen"]}, ["'distractor'", "unknown"]),
        ({"stem": "What is <|image_pad|>?"}, ["'stem'", "<|image_pad|>"]),
        ({"options": ["liver", "</answer>"]}, ["'options'", "</answer>"]),
        ({"distractors": ["<image>"]}, ["'distractors'", "<image>"]),
        ({"structure": "a\ud800"}, ["'structure'", "markup"]),
    ],
)
def test_wrong_field(folder, changes, parts):
    refused(write(folder, ROW | {"id": "q0"}, ROW | changes), ":2: ", *parts)


def test_duplicate_ids_name_both_lines(folder):
    refused(write(folder, ROW, ROW | {"id": "q2"}, ROW), ":3: ", "line 1", "'q1'")


@pytest.mark.parametrize("splits", [("train", None), (None, "train")])
def test_split_on_some_lines_only(folder, splits):
    rows = [ROW | {"id": str(k)} | ({"split": name} if name else {}) for k, name in enumerate(splits)]
    refused(write(folder, *rows), ":2: ", "'split'", "every line or on none")


@pytest.mark.parametrize("content", [b"", b"\n\r\n  \n", b"\xef\xbb\xbf"])
def test_empty_file(folder, content):
    path = folder / "bank.jsonl"
    path.write_bytes(content)
    refused(path, "holds none")


def test_file_that_cannot_be_read(folder):
    refused(folder / "none.jsonl", "can't be read", "No such file")
    refused(folder, "can't be read")
    refused(write(folder, json.dumps(ROW).encode("utf-16")), "not UTF-8")
    with pytest.raises(AnatomyError, match="jsonl"):
        open_bank("jsonl")


@pytest.fixture
def traps(folder) -> Path:
    root = folder / "root"
    root.mkdir()
    (folder / "a.png").rename(folder / "secret.png")
    (root / "link.png").symlink_to(folder / "secret.png")
    (root / "door").symlink_to(folder)
    (root / "loop.png").symlink_to("loop.png")
    os.mkfifo(root / "pipe.png")
    return root


@pytest.mark.parametrize(
    "image, part",
    [
        ("none.png", "no such image"),
        ("../secret.png", "must lie inside"),
        ("x/../../secret.png", "no such image"),
        ("door/../../secret.png", "no such image"),
        ("door/secret.png", "must lie inside"),
        ("link.png", "must lie inside"),
        ("loop.png", "no such image"),
        ("pipe.png", "expected a file"),
        (".", "expected a file"),
        ("a" * 5000, "no such image"),
        ("bank.jsonl/x", "no such image"),
    ],
)
def test_images_outside_the_folder_or_absent_are_refused_at_once(traps, image, part):
    refused(write(traps, ROW | {"image": image}), ":1: ", "'image'", part)


def test_absolute_paths_are_refused_even_inside(folder):
    refused(write(folder, ROW | {"image": str(folder / "a.png")}), ":1: ", "'image'", "relative")


def test_links_and_dots_that_stay_inside_are_fine(folder):
    (folder / "sub").mkdir()
    (folder / "sub" / "link.png").symlink_to("../a.png")
    bank = JsonlBank(write(folder, ROW | {"image": "sub/link.png"}, ROW | {"id": "q2", "image": "sub/../a.png"}))
    assert (bank.question(0).pixels() == bank.question(1).pixels()).all()


def test_broken_images_are_found_when_read(folder):
    (folder / "zero.png").touch()
    whole = (folder / "a.png").read_bytes()
    (folder / "torn.png").write_bytes(whole[: len(whole) // 2])
    bank = JsonlBank(write(folder, ROW | {"image": "zero.png"}, ROW | {"id": "q2", "image": "torn.png"}))
    for index, name in enumerate(("zero.png", "torn.png")):
        with pytest.raises(AnatomyError, match=name):
            bank.question(index).pixels()


def test_images_over_the_pixel_cap_are_refused_when_read(folder):
    bank = open_bank(f"jsonl:{write(folder, ROW)}", max_pixels=11)
    with pytest.raises(AnatomyError, match="12 pixels, the cap is 11"):
        bank.question(0).pixels()


def test_a_file_that_changed_is_noticed(folder):
    path = write(folder, ROW, ROW | {"id": "q2"})
    bank = JsonlBank(path)
    write(folder, ROW | {"id": "q3"}, ROW | {"id": "q4"})
    with pytest.raises(AnatomyError, match="changed since it was opened"):
        bank.question(1)
    path.unlink()
    with pytest.raises(AnatomyError, match="can't be read any more"):
        bank.question(0)


def test_a_thousand_mutations_are_refused_or_read_right(folder, rng, spoil_bytes):
    """Whatever happens to the bytes, there is a clear error, or questions whose answer is one of their own options."""
    rows = [ROW | {"id": f"q{k}", "distractors": ["spleen"], "split": "train", "details": {"k": [k]}} for k in range(3)]
    whole = write(folder, *rows).read_bytes()
    path = folder / "mutated.jsonl"
    refusals = 0
    for _ in range(1200):
        path.write_bytes(spoil_bytes(whole, rng))
        try:
            bank = JsonlBank(path)
            for question in map(bank.question, range(len(bank))):
                assert question.options[question.answer] not in question.distractors
                assert question.image == folder.resolve() / "a.png"
        except AnatomyError as error:
            refusals += 1
            assert str(path) in str(error) and len(str(error)) < 1000
    assert 600 < refusals < 1200


# What people's files have besides


def encoded() -> str:
    buffer = io.BytesIO()
    Pil.new("RGB", (4, 3), (1, 2, 3)).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


@pytest.mark.parametrize(
    "changes",
    [
        {"answer": "b"},
        {"answer": "(B)"},
        {"answer": "B."},
        {"answer": "1"},
        {"answer": 1.0},
        {"answer": ["B"]},
        {"options": {"A": "liver", "B": "gut", "C": "B cell"}},
        {"options": '["liver", "gut", "B cell"]'},
        {"options": ["liver", "gut", "B cell", None]},
        {"stem": "<image>\nWhich organ is this?"},
        {"image": ["a.png"]},
        {"image": None, "images": ["a.png"]},
        {"image": "./a.png"},
        {"image": ".\\a.png"},
        {"modality": None, "split": None, "distractors": None, "details": None, "structure": None},
        {"id": 1},
    ],
)
def test_other_forms_of_the_same_row(folder, changes):
    row = {key: value for key, value in (ROW | changes).items() if (key, value) != ("image", None)}
    question = JsonlBank(write(folder, row)).question(0)
    assert (question.stem, question.options, question.answer) == ("Which organ is this?", tuple(ROW["options"]), 1)
    assert question.structure == "gut" and (question.pixels() == (1, 2, 3)).all()


@pytest.mark.parametrize("prefix", ["", "data:image/png;base64,"])
def test_images_in_the_row(folder, prefix):
    row = ROW | {"image": prefix + encoded()}
    bank = JsonlBank(write(folder, row, row | {"id": "q2"}))
    assert (bank.question(1).pixels() == (1, 2, 3)).all()
    assert bank.question(0).group_key == bank.question(1).group_key and len(bank.question(0).group_key) < 40


def test_several_images_are_refused_with_their_number(folder):
    row = {key: value for key, value in ROW.items() if key != "image"} | {"images": ["a.png", "a.png"]}
    refused(write(folder, row), ":1: ", "'image'", "one image, this row 2")


def test_answers_counted_from_one_are_refused_until_it_is_said(folder):
    path = write(folder, *(ROW | {"id": str(k), "answer": k} for k in (1, 2, 3)))
    refused(path, ":3: ", "got 3", "if they are counted from 1, say answer_base=1")
    refused(path, "fit options counted from 1, not from 0", "answer_base=1", allow_bad=True)
    bank = open_bank(f"jsonl:{path}", answer_base=1)
    assert [bank.question(at).answer for at in range(3)] == [0, 1, 2]


def test_answers_that_are_never_the_first_option_are_worth_a_warning(folder, caplog):
    four = ROW | {"options": ["liver", "gut", "lung", "heart"]}
    JsonlBank(write(folder, *(four | {"id": str(k), "answer": 1 + k % 2} for k in range(19))))
    JsonlBank(write(folder, *(four | {"id": str(k), "answer": k % 3} for k in range(40))))
    assert not caplog.text
    JsonlBank(write(folder, *(four | {"id": str(k), "answer": 1 + k % 2} for k in range(20))))
    assert "none of 20 answers is 0, though they count from 0" in caplog.text and "say answer_base=1" in caplog.text


def test_linked_image_folders_are_followed_where_the_user_says_so(traps):
    path = write(traps, ROW | {"image": "door/secret.png"})
    refused(path, "leads out of it; if that is meant, say follow_links=")
    assert JsonlBank(path, follow_links=traps.parent).question(0).pixels().shape == (3, 4, 3)
    refused(path, "leads out of it", follow_links=traps)
    with pytest.raises(AnatomyError, match="follow_links: expected the folder"):
        JsonlBank(path, follow_links=traps / "none")


def test_texts_can_be_read_without_images(folder):
    path = write(folder, ROW | {"image": "none.png"})
    assert JsonlBank(path, require_images=False).question(0).stem == ROW["stem"]


def test_a_file_of_millions_of_bad_rows_is_given_up(folder):
    path = write(folder, *([b"1"] * 11_500))
    refused(path, "the first 11,000 rows are all refused", ":1: expected a JSON object", allow_bad=True)
    path = write(folder, ROW, *([b"1"] * 11_500))
    bank = JsonlBank(path, allow_bad=True)
    assert len(bank) == 1 and len(bank.refused) == 1001 and "10,500 more rows" in str(bank.refused[-1])
