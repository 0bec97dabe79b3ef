import json

import numpy as np
import pytest

from anatomy_r1.core import AnatomyError
from anatomy_r1.curricula import GroupOutcome, make_curriculum
from anatomy_r1.curricula.similarity import Confusion, make_similarity


def answer(question, rng, twins):
    """A group that takes twins for each other half of the time and knows everything else."""
    right = question.structure
    twin = twins.get(right)
    chosen = tuple(twin if twin in question.options and rng.random() < 0.5 else right for _ in range(8))
    return GroupOutcome(question, tuple(float(c == right) for c in chosen), tuple(c == right for c in chosen), chosen)


def train(curriculum, groups, twins, start=0):
    rng = np.random.default_rng(start)
    for index in range(start, start + groups):
        curriculum.observe(answer(curriculum.choose(index, 0.5).question, rng, twins))


def pair(matrix, one, other):
    return matrix.values[matrix.row(one), matrix.row(other)]


TWINS = {"organ 0": "organ 3", "organ 3": "organ 0"}


def test_it_begins_as_its_prior_and_finds_what_is_confused(make_bank):
    bank = make_bank(6)
    curriculum = make_curriculum("asc", bank, similarity="confusion")
    np.testing.assert_allclose(curriculum.confusion.similarity.values, make_similarity("auto", bank).values)
    train(curriculum, 256, TWINS)
    matrix = curriculum.confusion.similarity
    assert pair(matrix, "organ 0", "organ 3") == np.sort(matrix.values[np.triu_indices(6, 1)])[-1]
    np.testing.assert_array_equal(matrix.values, matrix.values.T)


def test_it_forgets_what_is_no_longer_confused(make_bank):
    base = make_similarity("names", make_bank(6))
    learner = Confusion(base, decay=0.9, refresh=1)
    bank, rng = make_bank(6), np.random.default_rng(0)
    rows = [bank.question(i) for i in range(300)]
    for question in rows[:150]:
        learner.observe(answer(question, rng, TWINS))
    before = pair(learner.similarity, "organ 0", "organ 3")
    for question in rows[150:]:
        learner.observe(answer(question, rng, {"organ 1": "organ 2", "organ 2": "organ 1"}))
    assert before > pair(learner.similarity, "organ 0", "organ 3") < pair(learner.similarity, "organ 1", "organ 2")


@pytest.mark.parametrize("fixed", [False, True])
def test_draws_follow_the_refreshed_similarity(make_bank, fixed):
    """Hard questions offer the twins together far more often once they are known to be confused."""
    bank = make_bank(12, questions=2000, fixed=fixed)
    curriculum = make_curriculum(
        "asc", bank, similarity="confusion", schedule="constant:1", aggregate="max", refresh=32
    )

    def together():
        questions = [curriculum.choose(10_000 + i, 0.5).question for i in range(600)]
        return np.mean([{"organ 0", "organ 3"} <= set(question.options) for question in questions])

    before, rng = together(), np.random.default_rng(0)
    for index in range(640):
        curriculum.observe(answer(bank.question(index), rng, TWINS))
    assert together() > before + 0.1
    choice = curriculum.choose(0, 0.5)
    assert choice.similarity == pytest.approx(curriculum.measure(choice.question))


def test_a_blend_keeps_its_fixed_part(make_bank):
    bank = make_bank(6)
    curriculum = make_curriculum("asc", bank, similarity="0.5*confusion+0.5*names")
    train(curriculum, 128, TWINS)
    fixed = make_similarity("names", bank).values
    learnt = 2 * curriculum.confusion.similarity.values - fixed
    upper = np.triu_indices(6, 1)
    assert len(np.unique(learnt[upper].round(9))) > 5
    assert ((learnt[upper] > 0) & (learnt[upper] < 1)).all()


def test_a_restored_state_goes_on_exactly(make_bank):
    bank = make_bank(8)
    options = {"similarity": "confusion", "schedule": "competence", "balance": "inverse-accuracy", "refresh": 16}
    whole, before, after = (make_curriculum("asc", bank, **options) for _ in range(3))
    train(whole, 50, TWINS)
    train(before, 50, TWINS)
    after.load_state_dict(json.loads(json.dumps(before.state_dict(), allow_nan=False)))
    for start in (50, 60):
        train(whole, 10, TWINS, start)
        train(after, 10, TWINS, start)
    assert after.state_dict() == whole.state_dict()
    assert [after.choose(i, 0.5) for i in range(20)] == [whole.choose(i, 0.5) for i in range(20)]


@pytest.mark.parametrize("options", [{"prior": 0}, {"decay": 0}, {"decay": 1.1}, {"refresh": 0}])
def test_bad_options_are_refused(make_bank, options):
    with pytest.raises(AnatomyError, match="expected prior"):
        Confusion(make_similarity("names", make_bank()), **options)
