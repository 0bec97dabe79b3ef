import json
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pil

from anatomy_r1.banks import open_bank
from anatomy_r1.cli.main import run


@pytest.fixture
def questions(tmp_path):
    """Four questions of ``scenes`` as JSONL, exported by the command."""
    out = tmp_path / "export"
    assert run(["bank", "export", "scenes", "--split", "test", "-n", "4", "--out", str(out)]) == 0
    return out / "questions.jsonl"


def test_export_is_lossless(questions):
    bank, source = open_bank(f"jsonl:{questions}"), open_bank("scenes", split="test")
    for question in map(bank.question, range(4)):
        original = source.question(source.index_of(question.id))
        assert question == original and (question.pixels() == original.pixels()).all()


def test_validate_says_what_it_found(questions, capsys):
    assert run(["bank", "validate", f"jsonl:{questions}"]) == 0
    printed = capsys.readouterr().out
    assert "4 of 4" in printed and "refused" in printed


def test_validate_exits_with_1_over_refused_rows_unless_allowed(questions, capsys):
    lines = questions.read_text().splitlines()
    row = json.loads(lines[1]) | {"answer": 9}
    questions.write_text("\n".join([lines[0], json.dumps(row), *lines[2:]]) + "\n")
    assert run(["bank", "validate", f"jsonl:{questions}", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert (found["questions"], len(found["refused"]), found["leaks"]) == (3, 1, [])
    assert found["refused"][0]["where"] == f"{questions}:2" and "answer" in found["refused"][0]["reason"]
    assert run(["bank", "validate", f"jsonl:{questions}", "--allow-bad"]) == 0
    assert f"{questions}:2" in capsys.readouterr().out


def test_validate_of_a_bank_that_can_not_be_opened_is_a_mistake(tmp_path, capsys):
    assert run(["bank", "validate", f"jsonl:{tmp_path / 'none.jsonl'}"]) == 2
    assert "Traceback" not in (captured := capsys.readouterr()).err and "none.jsonl" in captured.err


class Page(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.text = [], []

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.text.append(data)


def test_preview_shows_images_options_and_variants(questions, tmp_path, capsys):
    row = json.loads(questions.read_text().splitlines()[0])
    row |= {"id": "odd", "stem": "Is a < b & [/red] 'so'?", "options": ["<b>yes", "no"], "answer": 0}
    questions.write_text(questions.read_text() + json.dumps(row) + "\n")
    assert run(["bank", "preview", f"jsonl:{questions}", "-n", "5", "--out", str(tmp_path / "look")]) == 0
    sheet = np.asarray(Pil.open(tmp_path / "look/sheet.png"))
    assert sheet.shape[1] > 600 and sheet.std() > 10
    page = Page()
    page.feed((tmp_path / "look/index.html").read_text())
    assert sum(tag == "article" for tag, _ in page.tags) == 5 and sum(tag == "img" for tag, _ in page.tags) == 5
    assert sum(values.get("class") == "right" for _, values in page.tags) >= 5
    assert any("Is a < b & [/red] 'so'?" in text for text in page.text) and ("b", {}) not in page.tags
    assert not any("http" in str(values.get("src", "")) or tag == "script" for tag, values in page.tags)
    assert "sheet.png" in capsys.readouterr().out


def test_nothing_is_overwritten(questions, capsys):
    before = questions.read_bytes()
    for kind in ("jsonl", "hf", "trl"):
        assert run(["bank", "export", "scenes", "--to", kind, "-n", "2", "--out", str(questions.parent)]) == 2
    assert questions.read_bytes() == before and "new or empty" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["jsonl", "hf"])
def test_an_export_that_was_interrupted_or_killed_is_made_by_the_same_command(tmp_path, monkeypatch, capsys, kind):
    if kind == "hf":
        pytest.importorskip("datasets")
    line = ["bank", "export", "scenes", "--to", kind, "-n", "3", "--out"]
    assert run([*line, str(tmp_path / "whole")]) == 0
    out, replace, moved = tmp_path / "out", Path.replace, []

    def interrupted(self, target):
        moved.append(self.name)
        if len(moved) == 2:
            raise KeyboardInterrupt
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", interrupted)
    assert run([*line, str(out)]) == 130
    assert out.exists() is (kind == "hf")  # one is in the middle of its images, the other of its last moves
    monkeypatch.undo()
    out.mkdir(exist_ok=True)
    (out / ".export.partial/whole").mkdir(parents=True, exist_ok=True)  # what only a kill leaves
    (out / "images").mkdir()
    assert run([*line, str(out)]) == 0

    def files(folder):
        return sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())

    assert files(out) == files(tmp_path / "whole")
