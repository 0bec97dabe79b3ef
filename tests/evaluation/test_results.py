import json
from dataclasses import replace

import pytest

from anatomy_r1.agents import make_policy
from anatomy_r1.core import AnatomyError
from anatomy_r1.evaluation import evaluate, load_results, read_rollouts


@pytest.fixture
def run(bank, tmp_path):
    evaluate(make_policy("oracle", bank=bank), bank, limit=6, out=tmp_path)
    return tmp_path


def edited(run, **fields):
    path = run / "results.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))
    return run


def test_saving_and_loading_is_lossless(run, tmp_path):
    results = replace(load_results(run), policy="tiny ✓", gain_over_blind=None)
    results.save(tmp_path / "copy")
    assert load_results(tmp_path / "copy") == results


def test_another_schema_version_is_refused_with_its_number(run):
    with pytest.raises(AnatomyError, match=r"schema version 7, this anatomy-r1 reads 2"):
        load_results(edited(run, schema_version=7))


@pytest.mark.parametrize("text", ["", "{", "[]", '"text"', "{}", "null"])
def test_a_file_that_holds_no_results_is_named(run, text):
    (run / "results.json").write_text(text)
    with pytest.raises(AnatomyError, match=r"results.json: not a results file"):
        load_results(run)


@pytest.mark.parametrize(
    "fields",
    [
        {"accuracy": None},
        {"tables": []},
        {"surprise": 1},
        {"baselines": {"x": 3}},
        {"confusion": 1},
        {"errors": None},
        {"calibration": {"source": "votes"}},
    ],
)
def test_a_field_of_another_form_is_a_clear_error(run, fields):
    with pytest.raises(AnatomyError, match=r"results.json: a field is missing, unknown or of another form"):
        load_results(edited(run, **fields))


def test_a_folder_without_an_evaluation_is_named(tmp_path):
    with pytest.raises(AnatomyError, match=r"is .* the folder of an evaluation"):
        load_results(tmp_path)


def test_rollouts_survive_a_torn_line_and_name_a_foreign_one(run):
    path = run / "rollouts.jsonl"
    path.write_text(path.read_text() + '{"question_id": "tes')
    assert len(read_rollouts(run)) == 6
    path.write_text('{"question_id": "test/1"}\n' + path.read_text())
    with pytest.raises(AnatomyError, match=r"rollouts.jsonl, line 1: not a rollout"):
        read_rollouts(run)
