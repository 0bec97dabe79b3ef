import json
from collections import Counter, defaultdict
from itertools import combinations

import numpy as np
import pytest

from anatomy_r1.banks import MixBank, open_bank
from anatomy_r1.core import AnatomyError
from anatomy_r1.curricula import GroupOutcome, make_curriculum
from anatomy_r1.curricula.similarity import OptionSimilarity, Similarity, make_similarity

LEVELS = (0.146, 0.380, 0.639)


def draws(curriculum, count, progress=0.5):
    return [curriculum.choose(index, progress) for index in range(count)]


def blind_accuracy(choices):
    """Accuracy on one half of guesses from the option set alone, learnt on the other half."""
    answers = defaultdict(Counter)
    for choice in choices[::2]:
        answers[frozenset(choice.question.options)][choice.question.structure] += 1
    guesses = {options: counts.most_common(1)[0][0] for options, counts in answers.items()}
    return np.mean([guesses.get(frozenset(c.question.options)) == c.question.structure for c in choices[1::2]])


@pytest.mark.parametrize("structures", [6, 25, 200])  # tabulated, sampled below and above 1e5 sets
@pytest.mark.parametrize("aggregate", ["mean-pairs", "mean", "max"])
@pytest.mark.parametrize("level", [0.0, *LEVELS, 1.0])
def test_realised_similarity_meets_a_reachable_target(make_bank, structures, aggregate, level):
    bank = make_bank(structures)
    measure = OptionSimilarity(make_similarity("auto", bank), aggregate)
    choices = draws(make_curriculum("asc", bank, aggregate=aggregate, schedule=f"constant:{level}"), 200)
    for choice in choices:
        assert choice.similarity == pytest.approx(measure(choice.question))
    reachable = [c for c in choices if structures > 6 or can_reach(measure, bank, c.question.structure, c.target)]
    near = [abs(choice.similarity - choice.target) <= 0.05 + 1e-9 for choice in reachable]
    assert np.mean(near) >= 0.95


def can_reach(measure, bank, answer, target):
    row = bank.structures.index(answer)
    others = [i for i in range(len(bank.structures)) if i != row]
    return (abs(measure.of_sets(row, np.array(list(combinations(others, 3)))) - target) <= 0.05).any()


@pytest.mark.parametrize("structures", [25, 200])
def test_the_only_set_that_fits_is_found(bank_of, make_question, structures):
    """All but three structures are unlike the answer; a high target leaves one set, in a thousand or a million."""
    names = [f"organ {i}" for i in range(structures)]
    values = np.eye(structures)
    values[0, 7:10] = values[7:10, 0] = 0.9
    bank = bank_of([make_question(names[:4], distractors=names[1:])], names)
    curriculum = make_curriculum("asc", bank, similarity=Similarity(tuple(names), values), aggregate="mean")
    question, similarity = curriculum.drawer.draw(0.9, np.random.default_rng(0))
    assert set(question.options) == {"organ 0", "organ 7", "organ 8", "organ 9"}
    assert similarity == pytest.approx(0.9)


def test_similarity_follows_the_papers_stages_and_targets_lie_in_the_banks_reach(make_bank):
    curriculum = make_curriculum("asc", make_bank(40))
    choices = [curriculum.choose(index, index / 600) for index in range(600)]
    assert [choice.stage for choice in choices] == [0] * 228 + [1] * 150 + [2] * 222
    low, high = curriculum.drawer.spread.reach
    for stage, level in enumerate(LEVELS):
        realised = [choice.similarity for choice in choices if choice.stage == stage]
        assert np.mean(realised) == pytest.approx(low + level * (high - low), abs=0.02)


def test_shuffled_targets_are_the_schedules_in_no_order(make_bank):
    """The same histogram of S over a run, and at every moment of it."""
    curriculum = make_curriculum("asc", make_bank(40), shuffled=True)
    choices = [curriculum.choose(index, index / 2000) for index in range(2000)]
    for part in (choices[:1000], choices[1000:]):
        shares = [sum(choice.stage == stage for choice in part) / 1000 for stage in range(3)]
        assert shares == pytest.approx([0.38, 0.25, 0.37], abs=0.04)
    low, high = curriculum.drawer.spread.reach
    for stage, level in enumerate(LEVELS):
        realised = [choice.similarity for choice in choices if choice.stage == stage]
        assert np.mean(realised) == pytest.approx(low + level * (high - low), abs=0.02)


def test_a_schedule_that_learns_its_level_can_not_be_shuffled(make_bank):
    with pytest.raises(
        AnatomyError, match=r"shuffled needs a schedule that goes by progress, and 'competence' learns its own"
    ):
        make_curriculum("asc", make_bank(12), shuffled=True, schedule="competence")


def test_only_the_distractors_change_and_they_come_from_the_questions_pool(make_bank):
    bank = make_bank(12)
    for choice in draws(make_curriculum("asc", bank), 300):
        question, original = choice.question, bank.question(bank.index_of(choice.question.id))
        assert question.options[question.answer] == original.structure == question.structure
        assert len(question.options) == 4
        assert set(question.options) - {original.structure} <= set(original.distractors)
        assert (question.stem, question.image) == (original.stem, original.image)


def test_letters_and_option_sets_vary_at_one_target(make_bank):
    choices = draws(make_curriculum("asc", make_bank(12), schedule="constant:0.5"), 1200)
    shares = np.bincount([choice.question.answer for choice in choices]) / len(choices)
    assert shares == pytest.approx([0.25] * 4, abs=0.05)
    assert len({frozenset(choice.question.options) for choice in choices}) > 100


@pytest.mark.parametrize("level", LEVELS)
def test_options_alone_do_not_give_the_answer_away(make_bank, level):
    choices = draws(make_curriculum("asc", make_bank(6), schedule=f"constant:{level}"), 3000)
    assert blind_accuracy(choices) < 0.29
    assert len({choice.question.structure for choice in choices}) == 6


def test_the_mean_within_a_stage_is_the_papers_level_on_scenes():
    """The moving average of Fig. 1 can only be met if S is not just near the target but on it in the mean."""
    curriculum = make_curriculum("asc", open_bank("scenes", "train"))
    low, high = curriculum.drawer.spread.reach
    for progress, level in ((0.2, 0.146), (0.5, 0.380), (0.8, 0.639)):
        realised = np.mean([choice.similarity for choice in draws(curriculum, 400, progress)])
        assert (realised - low) / (high - low) == pytest.approx(level, abs=0.04)


def test_the_aggregates_over_the_answer_alone_do_give_it_away(make_bank):
    choices = draws(make_curriculum("asc", make_bank(6), schedule="constant:0.146", aggregate="mean"), 3000)
    assert blind_accuracy(choices) > 0.5


def test_embedded_scenes_get_harder_without_a_leak():
    curriculum = make_curriculum("asc", open_bank("scenes", "train"))
    for progress, stage in ((0.1, 0), (0.5, 1), (0.9, 2)):
        choices = draws(curriculum, 400, progress)
        assert {choice.stage for choice in choices} == {stage}
        assert np.mean([abs(choice.similarity - choice.target) <= 0.05 for choice in choices]) >= 0.95
        assert blind_accuracy(choices) < 0.36  # 0.25, and the noise of 200 guesses
    assert curriculum.target(0.1)[0] < curriculum.target(0.5)[0] < curriculum.target(0.9)[0]


@pytest.mark.parametrize("fixed", [False, True])
def test_a_draw_depends_on_seed_index_and_progress_alone(make_bank, fixed):
    bank = make_bank(20, fixed=fixed)
    first, again, other = (make_curriculum("asc", bank, seed=seed) for seed in (3, 3, 4))
    expected = [first.choose(index, index / 50) for index in range(50)]
    assert [again.choose(index, index / 50) for index in reversed(range(50))] == expected[::-1]
    assert [other.choose(index, index / 50) for index in range(50)] != expected
    assert json.loads(json.dumps(first.state_dict())) == first.state_dict()


def test_fixed_questions_are_selected_as_they_are(make_bank):
    bank = make_bank(20, questions=2000, fixed=True)
    for level in LEVELS:
        choices = draws(make_curriculum("asc", bank, schedule=f"constant:{level}"), 200)
        assert all(choice.question is bank.question(bank.index_of(choice.question.id)) for choice in choices)
        assert max(abs(choice.similarity - choice.target) for choice in choices) <= 0.05
        assert len({choice.question.id for choice in choices}) > 50


def test_a_question_with_fixed_options_among_others_passes_as_it_is(make_bank, make_question):
    bank = make_bank(8, questions=50)
    bank.questions += [make_question(["yes", "no"], number=99)] * 50
    choices = draws(make_curriculum("asc", bank), 200)
    fixed = [choice for choice in choices if choice.question.id == "q99"]
    assert 40 < len(fixed) < 190
    assert all(choice.question.options == ("yes", "no") and np.isnan(choice.similarity) for choice in fixed)


def test_uniform_measures_similarity_without_steering_it(make_bank):
    bank = make_bank(30, questions=900)
    choices = draws(make_curriculum("uniform", bank), 900)
    measure = OptionSimilarity(make_similarity("features", bank))
    assert all(choice.similarity == measure(choice.question) for choice in choices)
    assert np.mean([choice.similarity for choice in choices]) == pytest.approx(0.5, abs=0.05)
    assert 500 < len({choice.question.id for choice in choices}) < 650  # 1 - 1/e of the bank
    blind = make_curriculum("uniform", make_bank(30, features=False)).choose(0, 0)
    assert np.isnan(blind.similarity)
    assert np.isnan(blind.target)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tolerance": -0.1}, r"tolerance .* got -0.1"),
        ({"aggregate": "median"}, "unknown aggregate 'median'"),
        ({"schedule": "papre"}, "Did you mean 'paper'"),
        ({"similarity": "csv:missing.csv"}, "missing.csv"),
        ({"shedule": "paper"}, "shedule"),
    ],
)
def test_bad_options_are_refused(make_bank, options, message):
    with pytest.raises(AnatomyError, match=message):
        make_curriculum("asc", make_bank(), **options)


def test_bad_banks_and_names_are_refused(make_bank, bank_of, make_question):
    for name in ("asc", "uniform"):
        with pytest.raises(AnatomyError, match="no questions"):
            make_curriculum(name, make_bank(questions=0))
    with pytest.raises(AnatomyError, match="no question has all its options"):
        make_curriculum("asc", bank_of([make_question(["yes", "no"])], ["liver", "gut"]))
    with pytest.raises(AnatomyError, match="Did you mean 'asc'"):
        make_curriculum("ascc", make_bank())
    with pytest.raises(AnatomyError, match="NaN"):
        make_curriculum("asc", make_bank()).choose(0, float("nan"))


def test_an_unreachable_target_is_warned_of_once_with_the_range(make_bank):
    bank = make_bank(6)
    curriculum = make_curriculum("asc", bank, schedule="constant:1", rescale=False)
    with pytest.warns(
        UserWarning, match=r"S\(q\) within 0.05 of the target 1.000; they reach 0\.\d+ to 0\.\d+"
    ) as caught:
        choices = draws(curriculum, 30)
    assert len(caught) == 1
    assert min(choice.similarity for choice in choices) > curriculum.drawer.spread.reach[1] - 0.05  # the nearest
    for progress in (0.1, 0.5, 0.9):
        draws(make_curriculum("asc", bank), 30, progress)  # what is rescaled can be reached


def test_levels_without_rescaling_are_values_of_s(make_bank):
    choices = draws(make_curriculum("asc", make_bank(40), schedule="constant:0.5", rescale=False), 100)
    assert {choice.target for choice in choices} == {0.5}
    assert np.mean([choice.similarity for choice in choices]) == pytest.approx(0.5, abs=0.01)


def test_fewer_structures_than_options_are_refused(bank_of, make_question):
    names = ["liver", "gut"]
    bank = bank_of([make_question(["liver", "gut", "x", "y"], distractors=["gut", "x", "y"])], names)
    with pytest.raises(AnatomyError, match=r"4 options need 3 distractors .* 2 structures: \['liver', 'gut'\]"):
        make_curriculum("asc", bank, similarity="names")


def test_a_distractor_that_can_be_no_option_is_refused(bank_of, make_question):
    names = ["a", "b", "c", "<answer>"]
    bank = bank_of([make_question(["a", "b"], distractors=["b", "c", "<answer>"])], names)
    with pytest.raises(AnatomyError, match="<answer>"):
        make_curriculum("asc", bank, similarity="names")


FOLLOWING = [
    ("uniform", {}),
    ("learnability", {}),
    ("asc", {}),
    ("asc", {"floor": 0.9}),
    ("asc", {"balance": "uniform"}),
]


@pytest.mark.parametrize(("name", "options"), FOLLOWING)
def test_a_mixture_whose_weights_change_is_followed(name, options):
    banks = {"a": open_bank("scenes"), "b": open_bank("scenes", seed=1)}
    more = {"similarity": "names"} if name == "asc" else {}
    bank = MixBank(banks, {"a": [[0, 1], [1, 0]], "b": [[0, 0], [1, 1]]}, length=200)
    curriculum = make_curriculum(name, bank, **options, **more)
    for progress, label in ((0.0, "a"), (1.0, "b")):
        drawn = [curriculum.choose(index, progress).question for index in range(20)]
        assert {question.id.split("/")[1] for question in drawn} == {label}
        curriculum.observe(GroupOutcome(drawn[0], (1.0, 0.0), (True, False), (drawn[0].structure, None)))


def test_a_mixture_that_can_not_be_followed_is_refused(make_bank):
    weights = {"a": [[0, 1], [1, 0]]}
    fixed = MixBank({"a": make_bank(6, fixed=True), "b": make_bank(6, fixed=True)}, weights, length=200)
    free = MixBank({"a": open_bank("scenes"), "b": open_bank("scenes", seed=1)}, weights, length=200)
    for bank, options in ((fixed, {}), (free, {"easy_weight": 0.5})):
        with pytest.raises(AnatomyError, match=r"weights change with the progress of training.*'learnability'"):
            make_curriculum("asc", bank, similarity="names", **options)
    steady = MixBank({"a": make_bank(6, fixed=True), "b": make_bank(6, fixed=True)}, {}, length=200)
    make_curriculum("asc", steady, similarity="names", easy_weight=0.5)


def test_a_soft_level_reaches_all_sets_and_prefers_near_ones(make_bank):
    bank = make_bank(6)
    soft = draws(make_curriculum("asc", bank, softness=0.15, schedule="constant:1.0"), 1500)
    hard = draws(make_curriculum("asc", bank, schedule="constant:1.0"), 1500)
    sets = [{frozenset(choice.question.options) for choice in found} for found in (soft, hard)]
    assert len(sets[0]) == 15 > len(sets[1])
    plain = draws(make_curriculum("uniform", bank), 1500)
    assert np.mean([c.similarity for c in soft]) > np.mean([c.similarity for c in plain]) + 0.05


@pytest.mark.parametrize("level", [0.0, 1.0])
def test_soft_levels_do_not_give_the_answer_away(make_bank, level):
    curriculum = make_curriculum("asc", make_bank(6), softness=0.15, schedule=f"constant:{level}")
    assert blind_accuracy(draws(curriculum, 4000)) <= 0.3


def test_the_floor_keeps_every_option_set(make_bank):
    bank = make_bank(6, fixed=True)
    usual = Counter(frozenset(bank.question(index).options) for index in range(len(bank)))
    curriculum = make_curriculum("asc", bank, floor=0.5, schedule="constant:1.0")
    counts = Counter(frozenset(choice.question.options) for choice in draws(curriculum, 3000))
    for options, count in usual.items():
        assert counts[options] >= 0.6 * 0.5 * 3000 * count / len(bank)


@pytest.mark.parametrize("structures", [25, 200])
def test_soft_levels_of_large_and_of_fixed_banks(make_bank, structures):
    for fixed in (False, True):
        curriculum = make_curriculum("asc", make_bank(structures, fixed=fixed), softness=0.1, schedule="constant:1.0")
        easy = make_curriculum("asc", make_bank(structures, fixed=fixed), softness=0.1, schedule="constant:0.0")
        means = [np.mean([c.similarity for c in draws(one, 300)]) for one in (curriculum, easy)]
        assert means[0] > means[1] + 0.05


@pytest.mark.parametrize("options", [{"floor": 1.0}, {"floor": -0.1}, {"softness": 1.5}, {"softness": -1.0}])
def test_shares_and_softness_out_of_range_are_refused(make_bank, options):
    with pytest.raises(AnatomyError, match=f"{min(options)} must be"):
        make_curriculum("asc", make_bank(6), **options)
