"""A thought that is read off the scene is true, its negation false, and of gibberish nothing can be told."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anatomy_r1.banks import Grounded, MixBank, open_bank
from anatomy_r1.banks.generate import DIRECTIONS, SURFACES, SceneGraph, SceneObject, Verdicts, judge_thought

BANK = open_bank("scenes", "train")
numbers = st.integers(0, 10_000)


def judge(thought, graph):
    return judge_thought(thought, graph, BANK.structures)


def relations(graph):
    """All directions that hold, each as (structure, relation, structure)."""
    names = [item.name for item in graph.objects]
    return [
        (names[i], name, names[j]) for name in DIRECTIONS for i, row in enumerate(graph.relations[name]) for j in row
    ]


@settings(max_examples=40, deadline=None)
@given(numbers, st.randoms(use_true_random=False))
def test_what_is_read_off_the_scene_is_true_and_its_negation_false(number, random):
    graph = BANK.graph(number)
    located = [item for item in graph.objects if item.location]
    said = [f"{item.location} {item.name.replace(' ', '_')}" for item in located]
    said += [f"the {item.name} is at the {item.location} of the frame" for item in located]
    linked = [(a, random.choice(SURFACES[name]), b) for a, name, b in relations(graph)]
    said += [f"The {a} is {words} the {b}" for a, words, b in linked]
    random.shuffle(said)
    assert judge(random.choice([", ", ". ", "\n"]).join(said), graph) == (4 * len(located) + 3 * len(linked), 0, 0)
    negated = [f"the {item.name} is not at the {item.location}" for item in located]
    negated += [f"the {a} is not {words} the {b}" for a, words, b in linked]
    names = len(located) + 2 * len(linked)
    assert judge(". ".join(negated), graph) == (names, len(located) + len(linked), 0)
    assert judge(". ".join(f"no {item.name}" for item in graph.objects), graph) == (0, len(graph.objects), 0)


@settings(max_examples=40, deadline=None)
@given(numbers)
def test_what_the_scene_lacks_or_has_elsewhere_is_false(number):
    graph = BANK.graph(number)
    for name in set(BANK.structures) - {item.name for item in graph.objects}:
        assert judge(f"top-left {name}", graph) == (0, 2, 0) and judge(f"no {name}", graph) == (1, 0, 0)
    for a, name, b in relations(graph):
        assert judge(f"{b} {SURFACES[name][0]} the {a}", graph) == (2, 1, 0)


@settings(max_examples=100, deadline=None)
@given(st.text(), st.text("xyz ,.\n<>", max_size=60))
def test_of_gibberish_nothing_can_be_told(text, gibberish):
    graph = BANK.graph(0)
    assert judge(gibberish, graph) == (0, 0, 0) and judge(gibberish, graph).shares == (0.0, 0.0, 1.0)
    assert sum(judge(text, graph).shares) == pytest.approx(1.0)


WORDS = ["liver", "gallbladder", "spleen", "top-left", "center", "above", "to the left of", "is", "at", "not", "maybe"]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from([*WORDS, "anatomy", "the", "and", "clearly"])), st.lists(st.sampled_from(WORDS)))
def test_clauses_are_judged_one_by_one(first, second):
    graph = BANK.graph(0)
    parts = [judge(" ".join(words), graph) for words in (first, second)]
    assert judge(". ".join(" ".join(words) for words in (first, second)), graph) == Verdicts(
        *map(sum, zip(*parts, strict=True))
    )


def scene():
    things = [("liver", "top-left"), ("gut", "center"), ("grasper", "bottom-mid"), ("omentum", "")]
    kinds = {"grasper": "instrument"}
    objects = tuple(
        SceneObject(name, kinds.get(name, "anatomy"), (0, 0, 9, 9), (5, 5), place, 81) for name, place in things
    )
    nothing = ((),) * 4
    relations = {"above": ((1, 2), (2,), (), ()), "below": ((), (0,), (0, 1), ()), "left": nothing, "right": nothing}
    return SceneGraph(90, 90, objects, {**relations, "retracted by": ((2,), (), (), ())})


@pytest.mark.parametrize(
    ("thought", "expected"),
    [
        ("I see the top-left liver above the gut", (4, 0, 0)),
        ("the liver is at the top-left and the gut is in the center", (4, 0, 0)),
        ("liver is retracted by the grasper", (3, 0, 0)),
        ("gut is retracted by the grasper", (2, 1, 0)),
        ("the liver is left of the gut", (2, 0, 1)),  # neither is: too near
        ("the liver clearly sits above the gut", (2, 0, 1)),
        ("above the gut", (1, 0, 1)),
        ("at the top-left", (0, 0, 1)),
        ("top-left instrument", (0, 1, 0)),
        ("bottom-mid instrument above the liver", (2, 1, 0)),
        ("center omentum", (1, 0, 1)),  # which no place would name alone
        ("maybe the liver is at the top-left", (0, 0, 2)),
        ("not liver", (0, 0, 1)),
        ("spleens and top-leftish things", (0, 0, 0)),
    ],
)
def test_what_a_thought_says_is_read_as_the_grammar_means_it(thought, expected):
    assert judge_thought(thought, scene(), ("liver", "gut", "spleen")) == expected


def test_a_mixture_knows_what_its_banks_know():
    mixed = MixBank({"scenes": open_bank("scenes")}, {}, length=40, seed=1).split("train")
    assert isinstance(mixed, Grounded)
    question = mixed.question(7)
    place = question.details["location"]
    assert judge_thought(f"{place} {question.structure}", mixed.graph(7), mixed.structures) == (2, 0, 0)
