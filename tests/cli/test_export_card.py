"""A data set for Hugging Face says what it is, and opens again as what it was."""

import json
import re

import pytest

from anatomy_r1.banks import export_jsonl, open_bank
from anatomy_r1.cli.main import run
from anatomy_r1.evaluation.audits import dataset_card

pytest.importorskip("datasets")


def export(spec, out, *more):
    assert run(["bank", "export", spec, "--to", "hf", "--out", str(out), *more]) == 0
    return open_bank(f"hf:{out}"), (out / "README.md").read_text()


def test_an_export_has_its_splits_and_a_card(tmp_path):
    file = export_jsonl(open_bank("scenes", "test"), range(24), tmp_path / "rows")
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    rows = [row | {"split": ("train", "train", "test")[at % 3]} for at, row in enumerate(rows)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    back, card = export(f"jsonl:{file}", tmp_path / "out")
    bank = open_bank(f"jsonl:{file}")
    assert set(back.splits) == {"train", "test"}
    facts = ("stem", "options", "answer", "structure", "question_type", "modality", "group_key")
    for name, size in (("train", 16), ("test", 8)):
        part, own = back.split(name), bank.split(name)
        assert len(part) == size and f"| {name} | {size} | {size} |" in card
        for question in map(part.question, range(size)):
            original = own.question(own.index_of(question.id.removeprefix(f"{name}/")))
            assert [getattr(question, fact) for fact in facts] == [getattr(original, fact) for fact in facts]
            assert (question.pixels() == original.pixels()).all()
    assert re.search(r"\| chance \| 0\.\d{3} \|  \|", card) and re.search(r"\| longest option \| 0\.\d{3} \| 0", card)
    assert sum(map(int, re.findall(r"^\| [^|]+ \| (\d+) \|$", card, re.MULTILINE))) == 24


def test_a_bank_made_here_has_its_licence():
    assert dataset_card("scenes", {"test": [open_bank("scenes", "test").question(at) for at in range(8)]}).startswith(
        "---\nlicense: mit\n"
    )


def test_the_licence_of_others_data_is_not_made_up(tmp_path):
    file = export_jsonl(open_bank("scenes", "test"), range(8), tmp_path / "rows")
    back, card = export(f"jsonl:{file}", tmp_path / "out")
    assert len(back) == 8 and "license: unknown" in card and "ask them before you publish" in card
    _, card = export(f"jsonl:{file}", tmp_path / "other", "--licence", "cc-by-4.0")
    assert "license: cc-by-4.0" in card and "ask them" not in card
