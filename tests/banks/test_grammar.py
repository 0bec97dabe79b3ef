import json
import time
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anatomy_r1.banks.generate import (
    COLOURS,
    LOCATIONS,
    NounPhrase,
    Parsed,
    Relation,
    SceneGraph,
    SceneObject,
    parse,
    render,
)
from anatomy_r1.banks.generate.grammar import CLINICAL, CLINICAL_RELATIONS, NOUNS, resolve, rewrites

RELEASED = Path(__file__).parents[2].parent / "shared" / "data" / "anatomy_r1"
COUNTS = {
    "GRPO": {"F": 475, "Z1": 112, "O1": 145, "A1": 144, "A2": 124},
    "GRPO-ASC-Learning": {"F": 463, "Z1": 114, "O1": 136, "A1": 128, "A2": 159},
    "GRPO-GDQA": {
        "F": 283,
        "Z1": 88,
        "Z2": 76,
        "O1": 81,
        "O2": 102,
        "A1": 99,
        "A2": 84,
        "A3": 97,
        "A4": 90,
    },
}
PARTS = (
    "liver",
    "cystic plate",
    "abdominal wall cavity",
    "hook",
    "left of",
    "both",
    "vertebrae l5",
    "L5 vertebra",
    "3rd ventricle",
    "Meckel's diverticulum",
    "heart-atrium (left)",
    "right/left",
    "T2*, hyperintense",
    "Öse",
)
WORDINGS = (
    "above",
    "below",
    "within",
    "left of",
    "to the left of",
    "on the left side of",
    "right of",
    "to the right of",
    "on the right side of",
    "horizontal",
    "vertical",
    "retracted by",
    "coagulated by",
)

phrases = st.builds(
    NounPhrase,
    st.sampled_from(NOUNS),
    st.none() | st.sampled_from(LOCATIONS),
    st.none() | st.sampled_from(PARTS),
    st.none() | st.sampled_from(COLOURS),
)
relations = st.builds(Relation, st.sampled_from(WORDINGS), phrases)
clinical = st.builds(
    Relation,
    st.sampled_from(CLINICAL_RELATIONS),
    st.builds(NounPhrase, st.just("anatomy"), component=st.sampled_from((*PARTS, "portal vein and splenic vein"))),
)
clinical_stems = st.one_of(
    st.builds(
        lambda template, place: Parsed(template, NounPhrase("anatomy", place), dialect=CLINICAL),
        st.sampled_from(("F", "Z1", "Z2")),
        st.sampled_from(LOCATIONS),
    ),
    st.builds(
        lambda template, links: Parsed(template, NounPhrase("anatomy"), links, dialect=CLINICAL),
        st.sampled_from(("O1", "O2")),
        st.tuples(clinical),
    ),
    st.builds(
        lambda template, links: Parsed(template, NounPhrase("anatomy"), links, dialect=CLINICAL),
        st.sampled_from(("A1", "A2", "A3", "A4")),
        st.tuples(clinical, clinical),
    ),
)
stems = st.one_of(
    st.builds(lambda place: Parsed("F", NounPhrase("anatomy", place)), st.sampled_from(LOCATIONS)),
    st.builds(Parsed, st.sampled_from(("Z1", "Z2")), phrases),
    st.builds(Parsed, st.sampled_from(("O1", "O2")), phrases, st.tuples(relations), that_is=st.booleans()),
    st.builds(
        Parsed,
        st.sampled_from(("A1", "A2", "A3", "A4")),
        phrases,
        st.tuples(relations, relations),
        both=st.booleans(),
    ),
)


@pytest.mark.parametrize("name", COUNTS)
def test_reads_and_writes_every_released_row(name):
    path = RELEASED / f"{name}.json"
    if not path.exists():
        pytest.skip(f"the released rows are not at {path}")
    texts = [row["instruction"] for row in json.loads(path.read_text())]
    found = [text.split("Question:\n")[1].split("\nAnatomy Options")[0] for text in texts]
    parsed = [parse(stem) for stem in found]
    assert Counter(item.template for item in parsed) == COUNTS[name]
    assert [render(item) for item in parsed] == found


@given(stems | clinical_stems)
def test_what_is_written_reads_back(parsed):
    assert parse(render(parsed)) == parsed


@given(stems)
def test_rewrites_are_other_words_for_the_same_and_lead_back(parsed):
    others = rewrites(parsed)
    assert (others == ()) == (parsed.template == "F")
    for other in others:
        assert render(other) != render(parsed)
        assert (other.phrase, other.relations) == (parsed.phrase, parsed.relations)
        assert parsed in rewrites(other)


def test_fields_of_a_stem():
    parsed = parse(
        "What name is the brown top-mid thing that is both to the left of the silver grasper instrument and "
        "retracted by the abdominal_wall_cavity object?"
    )
    assert parsed == Parsed(
        "A2",
        NounPhrase("thing", "top-mid", None, "brown"),
        (
            Relation("to the left of", NounPhrase("instrument", None, "grasper", "silver")),
            Relation("retracted by", NounPhrase("object", None, "abdominal wall cavity")),
        ),
        both=True,
    )
    assert [relation.name for relation in parsed.relations] == ["left", "retracted by"]
    assert parsed.named() == {"grasper", "abdominal wall cavity"}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "What is this?",
        "What is the liver?",
        "what is the thing?",
        "What is the thing? ",
        "What is the thing?\n",
        "There is a thing",
        "What anatomy is at the moon of the frame ?",
    ],
)
def test_other_text_is_no_stem(text):
    assert parse(text) is None


def test_long_text_is_read_in_linear_time():
    start = time.process_time()
    for text in ("What is the " + "a_" * 200_000, "There is a " + "red " * 100_000 + "thing", "that is " * 50_000):
        assert parse(text) is None
    assert time.process_time() - start < 30  # quadratic would be hours


def thing(name, kind, place):
    return SceneObject(name, kind, (0, 0, 1, 1), (0.5, 0.5), place, 1)


GRAPH = SceneGraph(
    9,
    9,
    (thing("liver", "anatomy", "top-left"), thing("gut", "anatomy", "center"), thing("hook", "instrument", "center")),
    {"above": ((1, 2), (), ()), "below": ((), (0,), (0,)), "left": ((), (), ()), "dissected by": ((), (2,), ())},
)


@pytest.mark.parametrize(
    ("stem", "names"),
    [
        ("What anatomy is at the center of the frame ?", ["gut"]),
        ("What anatomy is at the top-mid of the frame ?", []),
        ("What is the center anatomy?", ["gut"]),
        ("What is the center thing?", ["gut", "hook"]),
        ("There is a instrument, what is its name?", ["hook"]),
        ("What is the red top-left anatomy?", []),
        ("What is the name of the anatomy below the liver thing?", ["gut"]),
        ("There is a object that is below the top-left thing; what is it?", ["gut", "hook"]),
        ("What is the name of the thing above the gut anatomy?", ["liver"]),
        ("What is the name of the thing above the center object?", []),
        ("What is the name of the thing within the gut anatomy?", []),
        ("What is the name of the thing that is dissected by the hook object?", ["gut"]),
        ("What name is the thing that is dissected by the hook object and below the liver object?", ["gut"]),
        ("What name is the thing that is dissected by the hook object and above the gut object?", []),
    ],
)
def test_resolve_finds_what_is_meant(stem, names):
    assert resolve(parse(stem), GRAPH) == names
