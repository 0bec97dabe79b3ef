import json

import numpy as np
import pytest

from anatomy_r1.agents import make_policy
from anatomy_r1.core import AnatomyError
from anatomy_r1.evaluation import evaluate
from anatomy_r1.evaluation.reports import to_latex, to_markdown
from anatomy_r1.evaluation.reports.comparison_tables import rows_of
from anatomy_r1.evaluation.summaries import compare
from anatomy_r1.evaluation.summaries.comparison import bootstrap, mcnemar

pytest.importorskip("statsmodels")


def answers(numbers):
    """Right on these questions only."""

    def say(question):
        right = int(question.id[5:]) in numbers
        place = question.answer if right else (question.answer + 1) % len(question.options)
        return f"<think>t</think><answer>{'ABCD'[place]}</answer>"

    return say


@pytest.fixture
def runs(bank, text_policy, tmp_path):
    def make(name, numbers, **options):
        policy = text_policy(answers(set(numbers)))
        policy.name = name
        evaluate(policy, bank, out=tmp_path / name, baselines=(), controls=(), gallery=0, **options)
        return tmp_path / name

    return make


def test_what_was_won_and_lost_is_counted_and_tested(runs):
    found = compare([runs("a", range(20)), runs("b", range(5, 45))])
    (pair,) = found.pairs
    assert (pair.first, pair.second, pair.shared, pair.won, pair.lost) == ("a", "b", 60, 25, 5)
    assert pair.difference.value == pytest.approx(20 / 60)
    assert pair.difference.ci_low < 20 / 60 < pair.difference.ci_high and pair.difference.clusters == 12
    # Two-sided binomial test of 5 in 30.
    assert pair.p == pair.p_holm == pytest.approx(0.000325, abs=1e-6)
    whole = sum(one.value * one.n for one in pair.by_structure.values()) / 60
    assert whole == pytest.approx(pair.difference.value)


def test_many_pairs_are_corrected_by_holm(runs):
    found = compare([runs("a", range(30)), runs("b", range(36)), runs("c", range(48))])
    ps = [pair.p for pair in found.pairs]
    order = np.argsort(ps)
    expected, highest = np.zeros(3), 0.0
    for rank, place in enumerate(order):
        highest = max(highest, min(1.0, ps[place] * (3 - rank)))
        expected[place] = highest
    assert [pair.p_holm for pair in found.pairs] == pytest.approx(expected.tolist())


def test_only_shared_questions_count_and_their_number_is_told(runs):
    found = compare([runs("a", range(60), limit=50, seed=1), runs("b", range(60), limit=50, seed=2)]).pairs[0]
    assert 40 <= found.shared < 50 and found.only_first == found.only_second == 50 - found.shared
    assert (found.difference.value, found.p) == (0, 1.0)


def test_too_few_shared_questions_are_refused_with_their_number(runs):
    with pytest.raises(AnatomyError, match=r"a and b have \d+ questions in common \(of 25 and 40\), too few"):
        compare([runs("a", [], limit=25), runs("b", [], limit=40)])


def test_a_question_that_changed_is_not_the_same(runs, tmp_path):
    first, second = runs("a", range(60)), runs("b", range(60))
    path = second / "rollouts.jsonl"
    path.write_text(path.read_text().replace("What is at place 7?", "What is at place 700?"))
    assert compare([first, second]).pairs[0].shared == 59


def test_other_banks_or_a_single_run_are_refused(runs):
    first, second = runs("a", range(60)), runs("b", range(60))
    data = json.loads((second / "results.json").read_text())
    (second / "results.json").write_text(json.dumps(data | {"bank": "other"}))
    with pytest.raises(AnatomyError, match=r"same split of the same bank, got .*clusters, test; .*other, test"):
        compare([first, second])
    with pytest.raises(AnatomyError, match="two evaluations or more, got 1"):
        compare([first])


def test_runs_of_one_policy_get_names_that_differ(bank, tmp_path):
    for name in ("x/one", "x/two", "y/one"):
        evaluate(make_policy("random"), bank, out=tmp_path / name, baselines=())
    assert list(compare([tmp_path / "x/one", tmp_path / "x/two"]).runs) == ["one", "two"]
    assert list(compare([tmp_path / "x/one", tmp_path / "y/one"]).runs) == ["random 1", "random 2"]


def test_the_interval_resamples_groups_and_so_is_wider_than_that_of_questions():
    rng = np.random.default_rng(0)
    gains = np.repeat(rng.random(15) < 0.5, 20).astype(float)
    zero, names = np.zeros(300), [f"g{place // 20}" for place in range(300)]
    by_group, by_question = bootstrap(zero, gains, names), bootstrap(zero, gains, [str(k) for k in range(300)])
    assert by_group.value == by_question.value
    assert by_group.ci_high - by_group.ci_low > 3 * (by_question.ci_high - by_question.ci_low)
    assert bootstrap(zero, gains, names) == by_group


def test_the_bootstrap_holds_the_truth_as_often_as_it_says():
    rng, held = np.random.default_rng(3), []
    names = [str(group) for group in range(40) for _ in range(5)]
    for trial in range(200):
        shift = rng.normal(0.1, 0.2, 40).repeat(5) + rng.normal(0, 0.3, 200)
        found = bootstrap(np.zeros(200), shift, names, trial)
        held.append(found.ci_low <= 0.1 <= found.ci_high)
    assert 0.88 < np.mean(held) <= 0.99


@pytest.mark.parametrize(("won", "lost", "p"), [(0, 0, 1.0), (5, 5, 1.0), (10, 0, 2 / 2**10), (1, 0, 1.0)])
def test_mcnemar_is_the_exact_binomial_test(won, lost, p):
    assert mcnemar(won, lost) == pytest.approx(p)


def test_tables_escape_what_their_languages_take_for_markup(runs):
    found = compare([runs("a_b", range(20)), runs("50% & | more", range(40))])
    markdown, latex = to_markdown(found), to_latex(found)
    assert r"a\_b → 50% & \| more" in markdown and "### " in markdown
    rows = [line for line in markdown.splitlines() if line.startswith("|")]
    assert {line.replace(r"\|", "").count("|") for line in rows} == {9, 5}
    assert r"a\_b $\to$ 50\% \& \textbar{} more" in latex and latex.count(r"\\") == 2
    assert rows_of(found)[0][2] == "+33.3"


def test_a_latex_row_may_begin_with_a_bracket(runs):
    """After the end of a row, LaTeX would take it for the space to leave."""
    latex = to_latex(compare([runs("[1] mine", range(20)), runs("b", range(40))]))
    assert r"{[}1{]} mine $\to$ b" in latex and "\n[" not in latex
