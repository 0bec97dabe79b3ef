import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anatomy_r1.core import AnatomyError, Question
from anatomy_r1.curricula import GroupOutcome, Level, Staged, make_curriculum, make_schedule
from anatomy_r1.curricula.schedules import evenly_drawn, is_even

GRID = (np.arange(1000) + 0.5) / 1000


def test_paper_has_the_levels_and_shares_of_figure_1():
    levels = [make_schedule("paper").at(progress) for progress in GRID]
    assert levels == [Level(0.146, 0)] * 380 + [Level(0.380, 1)] * 250 + [Level(0.639, 2)] * 370


def test_anti_goes_down():
    assert [make_schedule("anti").at(progress).value for progress in (0, 0.5, 1)] == [0.639, 0.380, 0.146]


def test_stages_begin_on_their_bound_and_the_last_lasts_to_the_end():
    schedule = Staged((0.1, 0.2, 0.3), (2, 1, 1))
    assert [schedule.at(progress).stage for progress in (0, 0.499, 0.5, 0.749, 0.75, 1)] == [0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize("name", ["linear", "cosine"])
@given(progress=st.tuples(st.floats(0, 1), st.floats(0, 1)))
def test_ramps_rise_from_start_to_end(name, progress):
    schedule = make_schedule({"name": name, "start": 0.2, "end": 0.8})
    early, late = sorted(progress)
    assert 0.2 <= schedule.at(early).value <= schedule.at(late).value + 1e-12 <= 0.8 + 2e-12
    assert [schedule.at(end).value for end in (0, 0.5, 1)] == pytest.approx([0.2, 0.5, 0.8])


def test_cosine_is_slower_than_linear_at_first():
    assert make_schedule("cosine").at(0.1).value < make_schedule("linear").at(0.1).value


def test_constant_and_equal_shares():
    assert {make_schedule("constant:0.3").at(progress).value for progress in (0, 0.5, 1)} == {0.3}
    halves = make_schedule({"name": "staged", "levels": [0.9, 0.1]})
    assert [halves.at(progress).value for progress in (0.49, 0.51)] == [0.9, 0.1]


def test_stages_may_be_written_as_text():
    assert make_schedule("staged:0.1,0.5,0.9/2,1,1") == Staged((0.1, 0.5, 0.9), (2, 1, 1))
    assert make_schedule("staged:0.1,0.5") == Staged((0.1, 0.5))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("staged:0.1,x", "numbers with commas"),
        ("staged:0.1/1/2", "numbers with commas"),
        ("staged:0.1,0.2/1", "as many positive shares"),
        ("papre", "Did you mean 'paper'"),
        ("constant:x", "number in"),
        ("constant:1.5", r"\[0, 1\], got 1.5"),
        ({"levels": [0.1]}, "needs a name"),
        ({"name": "staged", "levels": []}, "needs levels"),
        ({"name": "staged", "levels": [0.1, 0.2], "shares": [1]}, "as many positive shares"),
        ({"name": "staged", "levels": [0.1, 0.2], "shares": [1, 0]}, "as many positive shares"),
        ({"name": "staged", "levels": [0.1, "x"]}, "got 'x'"),
        ({"name": "staged", "levels": [0.1, float("nan")]}, "got nan"),
        ({"name": "linear", "finish": 1}, "finish"),
    ],
)
def test_bad_schedules_are_refused(spec, message):
    with pytest.raises(AnatomyError, match=message):
        make_schedule(spec)


ASKED = Question(
    id="q",
    image=lambda: np.zeros((4, 4, 3), np.uint8),
    stem="What anatomy is at the center of the frame ?",
    options=("a", "b", "c", "d"),
    answer=0,
    structure="a",
    question_type="location",
    modality="test",
    group_key="g",
    source="test",
)
EVENLY = evenly_drawn(ASKED)


def outcome(question, correct, level=None, easier=()):
    right = tuple(map(bool, correct))
    return GroupOutcome(question, tuple(map(float, right)), right, (None,) * len(right), easier, level)


def simulate(schedule, skill, groups=3000, size=8):
    """A policy whose accuracy falls from 1 to 0.25 as the level passes its skill; one draw in five is even."""
    rng = np.random.default_rng(0)
    levels = []
    for number in range(groups):
        even = rng.random() < 0.2
        levels.append(schedule.at(number / groups).value)
        level = rng.random() if even else levels[-1]
        chance = 0.25 + 0.75 / (1 + np.exp((level - skill(number / groups)) * 12))
        schedule.observe(outcome(EVENLY if even else ASKED, rng.random(size) < chance, level))
    return np.array(levels)


def test_competence_is_accuracy_over_chance_on_even_draws():
    schedule = make_schedule({"name": "competence", "prior": 1e-9, "decay": 0.5})
    schedule.observe(outcome(EVENLY, [1, 1, 1, 0]))  # (.75 - .25) / .75
    assert schedule.at(0).value == pytest.approx(2 / 3)
    schedule.observe(outcome(EVENLY, [1, 1, 1, 1]))
    assert schedule.at(0).value == pytest.approx((0.5 * 2 / 3 + 1) / 1.5)
    schedule.observe(outcome(EVENLY, [0, 0, 1, 1], easier=(True, True, False, False)))  # own forms: all right
    assert schedule.at(0).value == pytest.approx((0.5 * (0.5 * 2 / 3 + 1) + 1) / 1.75)


def test_competence_hears_nothing_of_what_the_schedule_asked_for():
    schedule = make_schedule("competence")
    for _ in range(50):
        schedule.observe(outcome(ASKED, [1] * 8, 0.1))
    assert schedule.at(0.5).value == 0.0


def test_competence_follows_the_policy_and_steps_back():
    levels = simulate(make_schedule("competence"), lambda progress: 0.2 + 0.5 * (progress < 0.5))
    # Accuracy over chance on even draws is the share of levels below the skill.
    assert levels[1200:1500].mean() == pytest.approx(0.7, abs=0.08)
    assert levels[-300:].mean() == pytest.approx(0.2, abs=0.08)


@pytest.mark.parametrize("name", ["competence", "learnability"])
def test_learnt_levels_stay_in_range(name):
    schedule = make_schedule(name)
    levels = simulate(schedule, lambda progress: 5.0 if progress < 0.5 else -5.0, groups=2000)
    assert levels.min() >= 0 and levels.max() <= 1 and (levels[900] > 0.9 or name == "learnability")
    for correct in ([0] * 8, [1] * 8):
        for level in (-0.3, 1.7):
            for _ in range(200):
                schedule.observe(outcome(EVENLY, correct, level))
            assert 0 <= schedule.at(0).value <= 1


def test_learnability_finds_the_level_where_half_is_right_and_goes_with_it():
    levels = simulate(make_schedule("learnability"), lambda progress: 0.3 if progress < 0.5 else 0.7)
    # Half of the answers are right a little above the skill, as a quarter is right by chance.
    assert np.median(levels[800:1500]) == pytest.approx(0.36, abs=0.11)
    assert np.median(levels[-700:]) == pytest.approx(0.76, abs=0.11)


def test_learnability_by_hand():
    schedule = make_schedule({"name": "learnability", "bins": 2, "prior": 8.0})
    assert schedule.at(0) == Level(0.25, 0), "the easiest of equals"
    schedule.observe(outcome(ASKED, [1] * 8, 0.2))  # p = 12/16: .1875, against 1/4 where nothing is known
    assert schedule.at(0).value == 0.75
    schedule.observe(outcome(ASKED, [0] * 8, 0.9))  # p = 4/16 against nearly 12/16, which has faded towards 1/2
    assert schedule.at(0).value == 0.25
    schedule.observe(outcome(ASKED, [1] * 8))  # of no level: unheard
    assert schedule.at(0).value == 0.25


@pytest.mark.parametrize("name", ["competence", "learnability"])
def test_competence_goes_on_from_its_state(name):
    whole, part, rest = (make_schedule(name) for _ in range(3))
    simulate(whole, lambda progress: 0.5, groups=50)
    simulate(part, lambda progress: 0.5, groups=50)
    rest.load_state_dict(json.loads(json.dumps(part.state_dict())))
    assert rest.at(0.1) == whole.at(0.1) != make_schedule(name).at(0.1)


BAD = [{"decay": 1.0}, {"decay": 0.0}, {"prior": 0}]
REFUSED = [("competence", {"start": 2}), ("learnability", {"bins": 1})]
REFUSED += [(name, bad) for name in ("competence", "learnability") for bad in BAD]


@pytest.mark.parametrize(("name", "options"), REFUSED)
def test_bad_competence_is_refused(name, options):
    with pytest.raises(AnatomyError):
        make_schedule({"name": name, **options})


@pytest.mark.parametrize("name", ["competence", "learnability"])
def test_asc_draws_evenly_for_a_schedule_that_learns_and_tells_it_the_level(make_bank, name):
    bank = make_bank(6)
    curriculum = make_curriculum("asc", bank, schedule=name)
    assert curriculum.floor == 0.2 and make_curriculum("asc", bank).floor == 0.0
    assert make_curriculum("asc", bank, schedule=name, floor=0.4).floor == 0.4
    drawn = [curriculum.choose(index, 0.5).question for index in range(600)]
    even = [question for question in drawn if is_even(question)]
    assert 0.13 < len(even) / 600 < 0.27 and not any(is_even(bank.question(index)) for index in range(10))
    assert {question.structure for question in even} == set(bank.structures)
    heard = []
    curriculum.schedule.observe = heard.append
    curriculum.observe(outcome(even[0], [1, 0]))
    low, high = curriculum.reach
    assert heard[0].level == pytest.approx((curriculum.measure(even[0]) - low) / (high - low))
