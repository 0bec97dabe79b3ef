"""The documented files are the files that are written."""

import dataclasses
import json
import re
from pathlib import Path

import pytest

from anatomy_r1.agents import make_policy
from anatomy_r1.evaluation import Estimate, Results, Rollout, evaluate
from anatomy_r1.evaluation.records.results import SCHEMA_VERSION

DOCS = (Path(__file__).parents[2] / "docs" / "evaluation.md").read_text(encoding="utf-8")


def documented(title):
    """Names in the first column of the table below a heading."""
    table = DOCS.partition(f"### {title}")[2].partition("| field")[2].partition("\n\n")[0]
    cells = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    return {name for cell in cells for name in re.findall(r"`([\w@]+)`", cell)}


def test_every_field_is_documented_and_no_other():
    assert documented("results.json") == {field.name for field in dataclasses.fields(Results)}
    assert documented("rollouts.jsonl") == {field.name for field in dataclasses.fields(Rollout)}
    assert f"### results.json, schema version {SCHEMA_VERSION}" in DOCS


class Looker:
    """Looks, so that there are controls."""

    name = "looker"

    def __init__(self, bank):
        self.bank = bank

    def respond(self, observations, *, n=1):
        return make_policy("noisy-oracle:0.6", bank=self.bank).respond(observations, n=n)


@pytest.fixture(scope="module")
def written(make_bank, tmp_path_factory):
    out = tmp_path_factory.mktemp("run")
    bank = make_bank()
    evaluate(Looker(bank), bank, out=out, n=4, permutations=2, config={"bank_spec": "mine"})
    lines = (out / "rollouts.jsonl").read_text().splitlines()
    controls = (out / "controls.jsonl").read_text().splitlines()
    return json.loads((out / "results.json").read_text()), *(
        [json.loads(x) for x in some] for some in (lines, controls)
    )


def test_results_have_the_documented_form(written):
    results, _, _ = written
    assert set(results) == documented("results.json")
    estimate = {field.name for field in dataclasses.fields(Estimate)}
    named = [results["accuracy"], results["gain_over_blind"]]
    for group in ("gains", "baselines", "sampling", "permutations"):
        named += results[group].values()
    named += [row["accuracy"] for rows in results["tables"].values() for row in rows]
    for found in named:
        assert set(found) == estimate
        assert -1 <= found["ci_low"] <= found["value"] <= found["ci_high"] <= 1
    assert set(results["baselines"]) == {
        "chance",
        "random",
        "longest",
        "odd-case",
        "majority",
        "blind",
        "blank",
        "other-image",
    }
    assert set(results["gains"]) == set(results["baselines"]) - {"chance"}
    assert set(results["sampling"]) == {"pass@1", "pass@2", "pass@4", "majority@4", "all@4"}
    assert set(results["permutations"]) == {"consistency", "all-right"}
    assert {"structure", "question_type", "modality", "similarity", "options", "letter"} <= set(results["tables"])
    assert set(results["errors"]) == {"wrong", "distance", "placed", "chance_distance", "laterality"}
    assert set(results["calibration"]) == {"source", "ece", "bins"}
    assert {"bank_hash", "prompt_hash", "policy", "packages", "git_commit", "python"} <= set(results["environment"])
    assert len(results["environment"]["bank_hash"]) == 64
    assert (results["config"]["seed"], results["config"]["bank_spec"]) == (0, "mine")
    assert 0 < results["policy_seconds"] < results["seconds"]


def test_rollouts_have_the_documented_form(written):
    _, rollouts, controls = written
    assert len(rollouts) == 60 * 4 * 2 and len(controls) == 60 * 2
    for row in [*rollouts, *controls]:
        assert set(row) == documented("rollouts.jsonl")
    assert {row["control"] for row in rollouts} == {None}
    assert {row["control"] for row in controls} == {"blank", "other-image"}
    assert {(row["permutation"], row["sample"]) for row in rollouts} == {(p, s) for p in (0, 1) for s in range(4)}


def test_hashes_tell_banks_apart(make_bank):
    def hashes(size, **options):
        found = evaluate(make_policy("random"), make_bank(size), baselines=(), **options).environment
        return found["bank_hash"], found["prompt_hash"]

    assert hashes(20) == hashes(20, batch_size=3) == hashes(20, permutations=2)
    assert hashes(20)[0] != hashes(21)[0] and hashes(20)[1] != hashes(21)[1]
