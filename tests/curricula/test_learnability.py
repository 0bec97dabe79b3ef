from collections import Counter

import numpy as np
import pytest

from anatomy_r1.core import AnatomyError
from anatomy_r1.curricula import GroupOutcome, make_curriculum
from tests.curricula.test_asc import blind_accuracy


def answered(question, chosen):
    right = tuple(text == question.structure for text in chosen)
    return GroupOutcome(question, tuple(map(float, right)), right, tuple(chosen))


def taught(curriculum, bank, hard=("organ 0", "organ 1"), groups=200):
    """A policy that takes the two hard structures for each other half of the time and knows all else."""
    for number in range(groups):
        question = bank.question(number % len(bank))
        rival = {hard[0]: hard[1], hard[1]: hard[0]}.get(question.structure)
        wrong = rival if rival in question.options else question.structure
        curriculum.observe(answered(question, [question.structure] * 4 + [wrong] * 4))
    return curriculum


def test_what_is_right_half_of_the_time_is_drawn_most(make_bank):
    bank = make_bank(8)
    curriculum = taught(make_curriculum("learnability", bank, floor=0.0), bank)

    def share(choices):
        return np.mean([{"organ 0", "organ 1"} <= set(choice.question.options) for choice in choices])

    plain = share([make_curriculum("uniform", bank).choose(i, 0.5) for i in range(400)])
    assert share([curriculum.choose(i, 0.5) for i in range(400)]) > 2 * plain


def test_what_nothing_is_known_of_is_drawn_as_the_bank_has_it(make_bank):
    bank = make_bank(8)
    weights = {make_curriculum("learnability", bank).weight(bank.question(i)) for i in range(40)}
    assert len(weights) == 1 and weights.pop() == pytest.approx(1.0)


def test_neither_what_is_always_right_nor_what_is_always_wrong_weighs_much(make_bank):
    bank = make_bank(4)
    question = bank.question(0)
    known, lost = (make_curriculum("learnability", bank) for _ in range(2))
    for _ in range(60):
        for index in range(4):
            asked = bank.question(index)
            wrong = next(text for text in asked.options if text != asked.structure)
            known.observe(answered(asked, [asked.structure] * 8))
            lost.observe(answered(asked, [wrong] * 8))
    assert known.weight(question) < 0.2 and lost.weight(question) < 0.2


def test_options_tell_no_more_of_the_answer_than_in_the_bank(make_bank):
    bank = make_bank(8, 4000)
    curriculum = taught(make_curriculum("learnability", bank, floor=0.0), bank)
    assert blind_accuracy([curriculum.choose(index, 0.5) for index in range(6000)]) <= 0.28


def test_the_floor_keeps_every_structure(make_bank):
    bank = make_bank(8)
    curriculum = taught(make_curriculum("learnability", bank, floor=0.5, power=20.0), bank)
    counts = Counter(curriculum.choose(index, 0.5).question.structure for index in range(800))
    assert min(counts[name] for name in bank.structures) >= 0.7 * 800 * 0.5 / 8


def test_harder_templates_weigh_by_their_own_odds(make_bank, make_question):
    bank = make_bank(6)
    names = list(bank.structures)
    curriculum = make_curriculum("learnability", bank)
    easy, hard = (make_question(names[:4], details={"template": name}) for name in ("F", "A1"))
    for _ in range(40):
        curriculum.observe(answered(easy, [names[0]] * 8))
        curriculum.observe(answered(hard, [names[0]] * 4 + [names[1]] * 4))
    assert curriculum.weight(hard) > curriculum.weight(easy)


def test_easier_forms_do_not_count(make_bank):
    bank = make_bank(4)
    question = bank.question(0)
    wrong = next(text for text in question.options if text != question.structure)
    curriculum = make_curriculum("learnability", bank)
    right = (True,) * 4 + (False,) * 4
    chosen = tuple(question.structure if mark else wrong for mark in right)
    curriculum.observe(GroupOutcome(question, tuple(map(float, right)), right, chosen, easier=right))
    other = make_curriculum("learnability", bank)
    other.observe(answered(question, [wrong] * 4))
    assert curriculum.state_dict() == other.state_dict()


def test_a_restored_state_goes_on_exactly(make_bank):
    bank = make_bank(8)
    first = taught(make_curriculum("learnability", bank, seed=3), bank, groups=30)
    second = make_curriculum("learnability", bank, seed=3)
    second.load_state_dict(first.state_dict())
    for curriculum in (first, second):
        taught(curriculum, bank, groups=10)
    drawn = [[c.choose(i, 0.2).question.id for i in range(50)] for c in (first, second)]
    assert drawn[0] == drawn[1] and first.state_dict() == second.state_dict()


@pytest.mark.parametrize(
    "options", [{"candidates": 0}, {"power": 0.0}, {"floor": 1.5}, {"prior": 0.0}, {"decay": 0.0}, {"power": np.nan}]
)
def test_options_out_of_range_are_refused(make_bank, options):
    with pytest.raises(AnatomyError, match=f"{min(options)} must be"):
        make_curriculum("learnability", make_bank(4), **options)
