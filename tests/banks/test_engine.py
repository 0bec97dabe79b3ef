import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anatomy_r1.banks import open_bank
from anatomy_r1.banks.generate import COLOURS, SceneGraph, SceneObject, ask, compose, parse, render
from anatomy_r1.banks.generate.grammar import TEMPLATES, resolve, rewrites
from anatomy_r1.banks.generate.questions import with_options
from anatomy_r1.banks.scenes.layout import draw_layout
from anatomy_r1.banks.scenes.vocabulary import SIX
from anatomy_r1.core import AnatomyError, normalise

seeds = st.integers(0, 2**32)


@settings(max_examples=60)
@given(seeds, st.sampled_from(sorted(TEMPLATES)), st.integers(2, 6))
def test_one_answer_no_leak_and_rewrites_keep_it(seed, template, n_options):
    rng = np.random.default_rng(seed)
    _, graph = draw_layout(rng)
    draft = ask(graph, rng, SIX.structures, n_options=n_options, weights={template: 1.0, "F": 1e-9})
    parsed = parse(draft.stem)
    assert parsed == draft.parsed
    assert draft.details["template"] == parsed.template in (template, "F")
    for form in (parsed, *rewrites(parsed)):
        assert resolve(parse(render(form)), graph) == [draft.structure]
    words = normalise(draft.stem)
    assert draft.structure not in words
    assert not any(colour in words.split() for colour in COLOURS)
    assert set(draft.pool) == {name for name in SIX.structures if name != draft.structure and name not in words}
    assert len(draft.pool) >= n_options - 1


@pytest.mark.parametrize("template", sorted(TEMPLATES))
def test_every_template_is_reachable(template):
    rng = np.random.default_rng(0)
    asked = [ask(draw_layout(rng)[1], rng, SIX.structures, weights={template: 1.0}) for _ in range(20)]
    assert sum(draft is not None and draft.parsed.template == template for draft in asked) >= 15


def test_all_kinds_of_words_are_used():
    bank = open_bank("scenes", split="train")
    text = " ".join(bank.question(i).stem for i in range(400))
    wanted = (
        "to the left of",
        "on the left side of",
        " left of",
        " right of",
        "above",
        "below",
        "that is both",
        "cystic_plate",
        " by the",
        "instrument",
        "object",
        "thing",
        "anatomy",
        "center",
    )
    assert [words for words in wanted if words not in text] == []


def lone(name, place):
    return SceneObject(name, "anatomy", (0, 0, 1, 1), (0.5, 0.5), place, 1)


def test_a_frame_that_affords_no_question_gives_none():
    rng = np.random.default_rng(0)
    assert ask(SceneGraph(9, 9, (), {}), rng, SIX.structures) is None
    twice = SceneGraph(9, 9, (lone("liver", "center"), lone("gut", "center")), {})
    assert ask(twice, rng, SIX.structures) is None
    once = SceneGraph(9, 9, (lone("liver", "center"),), {})
    assert ask(once, rng, SIX.structures).structure == "liver"
    assert ask(once, rng, SIX.structures, n_options=7) is None


def test_unknown_template_is_named():
    with pytest.raises(AnatomyError, match="no Q9; there are F, Z1"):
        ask(SceneGraph(9, 9, (), {}), np.random.default_rng(0), SIX.structures, weights={"Q9": 1})


@given(seeds, st.integers(2, 6))
def test_compose_shuffles_the_answer_in(seed, n_options):
    options, place = compose("liver", SIX.structures[1:], np.random.default_rng(seed), n_options)
    assert options[place] == "liver"
    assert len(set(options)) == n_options
    assert set(options) <= set(SIX.structures)


def test_compose_is_fair():
    rng = np.random.default_rng(0)
    drawn = [compose("liver", SIX.structures[1:], rng) for _ in range(4000)]
    places = np.bincount([place for _, place in drawn], minlength=4)
    others = np.array([sum(name in options for options, _ in drawn) for name in SIX.structures[1:]])
    assert np.abs(places / 4000 - 1 / 4).max() < 0.03
    assert np.abs(others / 4000 - 3 / 5).max() < 0.03


def test_compose_says_what_is_missing():
    with pytest.raises(AnatomyError, match="4 options need 3 wrong answers; only 1"):
        compose("liver", ["gut"], np.random.default_rng(0))


def test_with_options_keeps_everything_else():
    question = open_bank("scenes", split="test").question(5)
    options = (question.distractors[0], question.structure)
    changed = with_options(question, options, 1)
    assert (changed.options, changed.letter) == (options, "B")
    assert with_options(changed, question.options, question.answer) == question
