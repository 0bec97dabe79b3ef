import json
from collections import Counter, defaultdict

import numpy as np
import pytest

from anatomy_r1.core import AnatomyError
from anatomy_r1.curricula import make_curriculum
from anatomy_r1.curricula.balance import Balance


def shares(choices):
    counts = Counter(choice.question.structure for choice in choices)
    return {name: count / len(choices) for name, count in sorted(counts.items())}


def blind_accuracy(choices):
    answers = defaultdict(Counter)
    for choice in choices[::2]:
        answers[frozenset(choice.question.options)][choice.question.structure] += 1
    guesses = {options: counts.most_common(1)[0][0] for options, counts in answers.items()}
    return np.mean([guesses.get(frozenset(c.question.options)) == c.question.structure for c in choices[1::2]])


def train(curriculum, groups, marks_of, make_outcome, start=0):
    choices = []
    for index in range(start, start + groups):
        choices.append(curriculum.choose(index, 0.5))
        question = choices[-1].question
        curriculum.observe(make_outcome(question, marks_of(question)))
    return choices


def weak_at_organ_0(question):
    return "00000000" if question.structure == "organ 0" else "11111110"


@pytest.mark.parametrize("fixed", [False, True])
def test_what_is_got_wrong_is_drawn_more(make_bank, make_outcome, fixed):
    bank = make_bank(12, questions=2400, fixed=fixed)
    plain = make_curriculum("asc", bank, schedule="constant:0.5")
    curriculum = make_curriculum("asc", bank, schedule="constant:0.5", balance="inverse-accuracy")
    train(curriculum, 400, weak_at_organ_0, make_outcome)
    before = shares([plain.choose(i, 0.5) for i in range(1500)])["organ 0"]
    after = shares([curriculum.choose(i, 0.5) for i in range(1500)])
    assert after["organ 0"] > 1.4 * before
    assert min(after.values()) > 0.02  # nothing starves
    assert (
        np.mean([abs(c.similarity - c.target) <= 0.05 for c in (curriculum.choose(i, 0.5) for i in range(300))]) >= 0.95
    )


@pytest.mark.parametrize("balance", ["inverse-accuracy", "uniform"])
@pytest.mark.parametrize("level", [0.146, 0.380, 0.639])
def test_drawing_more_of_one_does_not_make_it_the_better_guess(make_bank, make_outcome, level, balance):
    curriculum = make_curriculum("asc", make_bank(6), schedule=f"constant:{level}", balance=balance)
    train(curriculum, 300, weak_at_organ_0, make_outcome)
    assert np.ptp(curriculum.balance.emphasis().structures) > 0.2
    assert blind_accuracy([curriculum.choose(i, 0.5) for i in range(4000)]) < 0.30


@pytest.mark.parametrize("fixed", [False, True])
def test_uniform_evens_out_an_uneven_bank(make_bank, make_outcome, fixed):
    bank = make_bank(6, questions=1200, fixed=fixed)
    bank.questions = [q for n, q in enumerate(bank.questions) if q.structure != "organ 0" or n % 30 == 0]
    rare = {}
    for balance in ("none", "uniform"):
        curriculum = make_curriculum("asc", bank, schedule="constant:0.5", balance=balance)
        rare[balance] = shares(train(curriculum, 1200, lambda q: "10", make_outcome)).get("organ 0", 0)
    assert rare["uniform"] > 0.12 > 2 * rare["none"]


@pytest.mark.parametrize("fixed", [False, True])
def test_questions_that_are_all_right_give_way_to_others_of_their_structure(make_bank, make_outcome, fixed):
    bank = make_bank(6, questions=60, fixed=fixed)
    known = {question.id for question in bank.questions[:30]}
    drawn = {}
    for weight in (1.0, 0.2):
        curriculum = make_curriculum("asc", bank, schedule="constant:0.5", tolerance=0.3, easy_weight=weight)
        train(curriculum, 400, lambda q: "1111" if q.id in known else "1100", make_outcome)
        choices = [curriculum.choose(i, 0.5) for i in range(2000)]
        drawn[weight] = np.mean([choice.question.id in known for choice in choices]), shares(choices)
    assert drawn[0.2][0] < 0.5 * drawn[1.0][0]
    assert drawn[0.2][1] == pytest.approx(drawn[1.0][1], abs=0.05)


def test_replay_draws_easier_questions_too(make_bank):
    curriculum = make_curriculum("asc", make_bank(40), schedule="constant:1", replay=0.3)
    choices = [curriculum.choose(i, 0.5) for i in range(1500)]
    target = curriculum.target(0.5)[0]
    easier = np.array([choice.target < target for choice in choices])
    assert easier.mean() == pytest.approx(0.3, abs=0.04)
    assert all(abs(choice.similarity - choice.target) <= 0.05 for choice in choices)
    assert min(choice.target for choice in choices) >= curriculum.drawer.spread.reach[0]


def test_nothing_is_emphasised_before_anything_is_heard_or_by_default(make_bank, make_outcome):
    bank = make_bank()
    plain, weighted = (make_curriculum("asc", bank, balance=kind) for kind in ("none", "inverse-accuracy"))
    assert [plain.choose(i, 0.2) for i in range(50)] == [weighted.choose(i, 0.2) for i in range(50)]
    plain.observe(make_outcome(bank.question(0), "0000"))
    assert plain.state_dict() == {}


def test_a_restored_balance_goes_on_exactly(make_bank, make_outcome):
    bank = make_bank(6)
    one, other = (Balance(bank, "inverse-accuracy", easy_weight=0.5) for _ in range(2))
    for index in range(40):
        one.observe(make_outcome(bank.question(index), "1111" if index % 3 else "0000"))
    other.load_state_dict(json.loads(json.dumps(one.state_dict(), allow_nan=False)))
    assert other.state_dict() == one.state_dict()
    np.testing.assert_array_equal(other.emphasis().structures, one.emphasis().structures)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"balance": "even"}, "known: none, uniform"), ({"easy_weight": 0}, "easy_weight"), ({"replay": 1}, "replay")],
)
def test_bad_options_are_refused(make_bank, options, message):
    with pytest.raises(AnatomyError, match=message):
        make_curriculum("asc", make_bank(), **options)
