import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anatomy_r1.core import AnatomyError
from anatomy_r1.curricula import GroupOutcome, Level, Staged, make_schedule

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


def simulate(schedule, skill, groups=3000, size=8):
    """A policy whose accuracy falls from 1 to 0.25 as the level passes its skill, which may change over time."""
    rng = np.random.default_rng(0)
    levels, accuracies = [], []
    for number in range(groups):
        level = schedule.at(number / groups).value
        chance = 0.25 + 0.75 / (1 + np.exp((level - skill(number / groups)) * 12))
        correct = tuple((rng.random(size) < chance).tolist())
        schedule.observe(GroupOutcome(None, tuple(map(float, correct)), correct, (None,) * size))
        levels.append(level)
        accuracies.append(np.mean(correct))
    return np.array(levels), np.array(accuracies)


@pytest.mark.parametrize("target", [0.5, 0.75])
def test_competence_keeps_accuracy_near_its_target(target):
    _, accuracies = simulate(make_schedule({"name": "competence", "accuracy": target}), lambda progress: 0.5)
    assert accuracies[1000:].mean() == pytest.approx(target, abs=0.02)


def test_competence_follows_the_policy_and_steps_back():
    levels, _ = simulate(make_schedule("competence"), lambda progress: 0.2 + 0.5 * (progress < 0.5))
    assert levels[1300:1500].mean() - levels[-200:].mean() == pytest.approx(0.5, abs=0.1)


def test_competence_stays_in_range_and_turns_at_once():
    schedule = make_schedule("competence")
    levels, _ = simulate(schedule, lambda progress: 5.0 if progress < 0.5 else -5.0, groups=400)
    assert levels.max() == 1.0 and levels[-1] == 0.0
    assert levels[240] < 0.95  # forty groups after the turn: nothing was wound up


def test_competence_goes_on_from_its_state():
    whole, part, rest = (make_schedule("competence") for _ in range(3))
    simulate(whole, lambda progress: 0.5, groups=50)
    simulate(part, lambda progress: 0.5, groups=50)
    rest.load_state_dict(part.state_dict())
    assert rest.at(0.1) == whole.at(0.1) != make_schedule("competence").at(0.1)


@pytest.mark.parametrize("options", [{"accuracy": 1.0}, {"rate": 0}, {"gain": -1}, {"start": 2}])
def test_bad_competence_is_refused(options):
    with pytest.raises(AnatomyError):
        make_schedule({"name": "competence", **options})
