import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anatomy_r1.evaluation import difference, proportion
from anatomy_r1.evaluation.stats import exact
from anatomy_r1.evaluation.stats.intervals import student

samples = st.lists(st.tuples(st.booleans(), st.integers(0, 6)), min_size=1, max_size=60)


def split(sample):
    return [float(hit) for hit, _ in sample], [f"g{group}" for _, group in sample]


@pytest.mark.parametrize(
    ("hits", "n", "low", "high"), [(8, 10, 0.4902, 0.9433), (0, 20, 0.0, 0.1611), (20, 20, 0.8389, 1.0)]
)
def test_independent_responses_get_the_wilson_interval(hits, n, low, high):
    found = proportion([1] * hits + [0] * (n - hits), [str(place) for place in range(n)])
    assert (found.value, found.n, found.clusters, found.method) == (hits / n, n, n, "wilson")
    assert (found.ci_low, found.ci_high) == pytest.approx((low, high), abs=5e-5)


@pytest.mark.parametrize(
    ("freedom", "value"), [(1, 12.7062), (2, 4.30265), (3, 3.18245), (5, 2.57058), (10, 2.22814), (100, 1.98397)]
)
def test_student_quantiles(freedom, value):
    assert student(freedom) == pytest.approx(value, rel=2e-3)


@given(samples)
def test_an_interval_holds_its_estimate_and_stays_in_bounds(sample):
    found = proportion(*split(sample))
    assert 0 <= found.ci_low <= found.value <= found.ci_high <= 1
    assert found.ci_high > found.ci_low


@given(samples, st.randoms(use_true_random=False))
def test_order_does_not_matter(sample, random):
    shuffled = random.sample(sample, len(sample))
    first, second = proportion(*split(sample)), proportion(*split(shuffled))
    assert (first.ci_low, first.ci_high) == pytest.approx((second.ci_low, second.ci_high))


def test_asking_the_same_patients_more_often_does_not_narrow_the_interval():
    rng = np.random.default_rng(0)
    patients = (rng.random(20) < 0.5).astype(float)
    once = proportion(np.repeat(patients, 2), [str(p) for p in range(20) for _ in range(2)])
    often = proportion(np.repeat(patients, 50), [str(p) for p in range(20) for _ in range(50)])
    assert (once.ci_low, once.ci_high) == pytest.approx((often.ci_low, often.ci_high))
    naive = proportion(np.repeat(patients, 50), [str(p) for p in range(1000)])
    assert often.ci_high - often.ci_low > 4 * (naive.ci_high - naive.ci_low)


def test_intervals_hold_the_truth_as_often_as_they_say():
    rng, truth, covered = np.random.default_rng(1), 0.7, []
    names = [str(group) for group in range(12) for _ in range(15)]
    for _ in range(600):
        chances = rng.beta(truth * 9, (1 - truth) * 9, 12)  # intra-cluster correlation .1
        found = proportion((rng.random((12, 15)) < chances[:, None]).ravel(), names)
        covered.append(found.ci_low <= truth <= found.ci_high)
    assert 0.92 < np.mean(covered) < 0.98


def test_one_cluster_says_nothing_about_others():
    found = proportion([1, 1, 0, 1], ["video"] * 4)
    assert (found.value, found.ci_low, found.ci_high, found.clusters) == (0.75, 0.0, 1.0, 1)
    gap = difference([1, 1], [0, 0], ["video"] * 2)
    assert (gap.value, gap.ci_low, gap.ci_high) == (1.0, -1.0, 1.0)


@given(samples)
def test_a_difference_turns_its_sign_with_its_sides(sample):
    hits, names = split(sample)
    others = hits[::-1]
    forth, back = difference(hits, others, names), difference(others, hits, names)
    assert forth.value == pytest.approx(-back.value)
    assert (forth.ci_low, forth.ci_high) == pytest.approx((-back.ci_high, -back.ci_low))


def test_pairing_cancels_what_both_sides_share():
    rng = np.random.default_rng(2)
    hard = rng.random(400) < 0.5
    before, after = hard.astype(float), (hard | (rng.random(400) < 0.1)).astype(float)
    names = [str(place) for place in range(400)]
    gap = difference(after, before, names)
    assert gap.ci_low > 0
    assert proportion(after, names).ci_low < proportion(before, names).ci_high


def test_exact_has_no_width_and_nonsense_is_refused():
    assert (exact(0.25, 4).ci_low, exact(0.25, 4).ci_high, exact(0.25, 4).method) == (0.25, 0.25, "exact")
    for hits, names in (([], []), ([1], ["a", "b"])):
        with pytest.raises(ValueError, match="cluster names"):
            proportion(hits, names)
