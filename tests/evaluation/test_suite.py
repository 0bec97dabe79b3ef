import json
import re

import pytest

from anatomy_r1.agents import make_policy
from anatomy_r1.core import AnatomyError
from anatomy_r1.envs import RewardConfig, Score, score
from anatomy_r1.evaluation import evaluate, load_results, read_rollouts
from anatomy_r1.evaluation.reports import write_leaderboard, write_leaderboard_page
from anatomy_r1.evaluation.run import read_suite, rescore, run_suite

SUITE = """
seeds = [0, 1]
controls = []
[[policies]]
spec = "noisy-oracle:0.7"
[[policies]]
name = "guess"
spec = "random"
[[policies]]
spec = "hf:/nowhere"
[[banks]]
spec = "in_memory:ClusterBank"
name = "clusters"
limit = 40
"""


@pytest.fixture
def suite(tmp_path, monkeypatch, make_bank):
    import sys
    import types

    module = types.ModuleType("in_memory")
    module.ClusterBank = make_bank
    monkeypatch.setitem(sys.modules, "in_memory", module)
    (tmp_path / "suite.toml").write_text(SUITE)
    return read_suite(tmp_path / "suite.toml")


def test_every_cell_is_an_evaluation_and_seeds_are_pooled(suite, tmp_path):
    cells = run_suite(suite, tmp_path / "out")
    assert [(cell.policy, cell.bank) for cell in cells] == [
        ("noisy-oracle:0.7", "clusters"),
        ("guess", "clusters"),
        ("hf:/nowhere", "clusters"),
    ]
    first, _, broken = cells
    results = [load_results(tmp_path / "out" / folder) for folder in first.folders]
    assert [found.config["seed"] for found in results] == [0, 1]
    assert first.accuracy.n == 80 and first.accuracy.clusters == 12
    assert first.accuracy.value == pytest.approx(sum(found.accuracy.value for found in results) / 2)
    assert first.gain_over_blind.value == pytest.approx(sum(found.gain_over_blind.value for found in results) / 2)
    assert broken.accuracy is None and "can't be loaded" in broken.problem


def test_a_suite_goes_on_where_it_was_and_repeats_nothing(suite, tmp_path):
    first = run_suite(suite, tmp_path / "out")
    folder = tmp_path / "out" / "guess" / "clusters" / "seed-1"
    (folder / "results.json").unlink()
    lines = (folder / "rollouts.jsonl").read_bytes().splitlines(keepends=True)
    (folder / "rollouts.jsonl").write_bytes(b"".join(lines[:11]))
    told = []
    assert run_suite(suite, tmp_path / "out", lambda *now: told.append(now)) == first
    assert {name for name, *_ in told} == {"guess · clusters · seed 1"}
    assert (folder / "rollouts.jsonl").read_bytes() == b"".join(lines)


def test_the_leaderboard_ranks_and_links_and_says_what_failed(suite, tmp_path):
    cells = run_suite(suite, tmp_path / "out")
    write_leaderboard(cells, tmp_path / "out")
    html = write_leaderboard_page(cells, tmp_path / "out").read_text()
    places = [html.index(f">{words}<") for words in ("hf:/nowhere", "Yardsticks", "noisy-oracle:0.7", "guess")]
    assert places == sorted(places) and html.count('class="range before"') == 2  # what guesses or knows stands apart
    links = re.findall(r'href="([^"]+)"', html)
    assert len(links) == 4 and all((tmp_path / "out" / link).parent.is_dir() for link in links)
    assert "can&#39;t be loaded" in html
    data = json.loads((tmp_path / "out" / "leaderboard.json").read_text())
    assert [row["policy"] for row in data] == ["noisy-oracle:0.7", "guess", "hf:/nowhere"]
    assert "| hf:/nowhere | failed |" in (tmp_path / "out" / "leaderboard.md").read_text()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", r"expected at least one \[\[policies\]\]"),
        ('[[policies]]\nspec = "random"', r"expected at least one \[\[banks\]\]"),
        ('[[policies]]\nspec = 3\n[[banks]]\nspec = "scenes"', r"\[\[policies\]\] 1: spec must be str, got 3"),
        ('[[policies]]\nname = "x"\n[[banks]]\nspec = "scenes"', r"\[\[policies\]\] 1: a key is missing .*spec"),
        ('[[policies]]\nspec = "random"\n[[banks]]\nspec = "s"\nlimt = 3', r"\[\[banks\]\] 1: unknown key 'limt'"),
        ('seed = 1\n[[policies]]\nspec = "random"\n[[banks]]\nspec = "s"', r"unknown key 'seed'; known: .*seeds"),
        (
            '[[policies]]\nspec = "a"\n[[policies]]\nspec = "a"\n[[banks]]\nspec = "s"',
            r"two \[\[policies\]\] go by one",
        ),
        ("= 3", "can't be read as a suite"),
    ],
)
def test_a_broken_suite_names_file_and_key(tmp_path, text, words):
    (tmp_path / "suite.toml").write_text(text)
    with pytest.raises(AnatomyError, match=words) as caught:
        read_suite(tmp_path / "suite.toml")
    assert "suite.toml" in str(caught.value)


def test_scoring_again_with_the_same_reward_changes_nothing(bank, tmp_path):
    evaluate(make_policy("noisy-oracle:0.5", bank=bank), bank, out=tmp_path / "run", n=2, permutations=2)
    found = rescore(tmp_path / "run", tmp_path / "again")
    assert (found.newly_right, found.newly_wrong) == (0, 0)
    assert read_rollouts(tmp_path / "again") == read_rollouts(tmp_path / "run")
    assert (found.after.tables, found.after.gains, found.after.permutations) == (
        found.before.tables,
        found.before.gains,
        found.before.permutations,
    )
    assert (tmp_path / "again" / "images" / "0000.png").exists()


def test_a_judgement_that_was_interrupted_begins_anew_and_another_one_does_not_take_its_place(bank, tmp_path):
    evaluate(make_policy("noisy-oracle:0.5", bank=bank), bank, out=tmp_path / "run", n=5, baselines=())
    left = [280]

    def tired(question, text, reward):
        left[0] -= 1
        if not left[0]:
            raise KeyboardInterrupt
        return score(question, text, reward)

    with pytest.raises(KeyboardInterrupt):
        rescore(tmp_path / "run", tmp_path / "again", judge=tired)
    assert len((tmp_path / "again/rollouts.jsonl").read_text().splitlines()) == 256
    with pytest.raises(AnatomyError, match="holds an evaluation"):
        rescore(tmp_path / "run", tmp_path / "again")
    found = rescore(tmp_path / "run", tmp_path / "again", judge=tired)
    assert found.after.accuracy == found.before.accuracy
    assert read_rollouts(tmp_path / "again") == read_rollouts(tmp_path / "run")


def test_other_weights_and_another_judge_need_no_policy(bank, text_policy, tmp_path):
    said = text_policy(lambda question: f"It is {question.letter}, I think.")
    evaluate(said, bank, out=tmp_path / "run", baselines=())
    before = bank.decoded.copy()

    def lenient(question, text, reward):
        right = f"is {question.letter}," in text
        return Score(
            1.0, float(right), reward.correct_weight * right, question.answer if right else None, {"loose": 1.0}
        )

    found = rescore(tmp_path / "run", tmp_path / "new", reward=RewardConfig(correct_weight=3.0), judge=lenient)
    assert found.before.accuracy.value == 0 and found.after.accuracy.value == 1
    assert (found.newly_right, found.newly_wrong, found.after.reward) == (60, 0, 3.0)
    assert found.after.config["judge"].endswith("lenient") and found.after.config["reward"]["correct"] == 3.0
    assert found.after.baselines["blank"].value == 1 and bank.decoded == before
    with pytest.raises(AnatomyError, match="holds an evaluation"):
        rescore(tmp_path / "run", tmp_path / "new")
