"""The nine question templates of Anatomy-R1 (arXiv 2512.19512) and SSG-VQA, read and written.

``NP = [colour] [location] [component] {anatomy|thing|object|instrument}``, and

== ============================================================================
F  What anatomy is at the LOC of the frame ?
Z1 What is the NP?
Z2 There is a NP, what is its name?
O1 What is the name of the NP [that is] REL the NP?
O2 There is a NP [that is] REL the NP; what is it?
A1 What is the name of the NP that is [both] REL the NP and REL the NP?
A2 What name is the NP that is [both] REL the NP and REL the NP?
A3 There is a NP that is [both] REL the NP and REL the NP?; what is its name?
A4 There is a NP that is [both] REL the NP and REL the NP?; what name is it?
== ============================================================================

The odd spacing and the missing "an" are the released data's own: what was parsed is rendered back letter by letter.

Volumes are asked about in a second dialect of the same templates, ``clinical``, in words that a radiologist reads
without stumbling: "Which of these lies anterior to the left kidney?" Its places are the image's, its directions either
the patient's or the image's, and never both.
"""

import re
from dataclasses import dataclass, replace

from anatomy_r1.banks.generate.scene_graph import LOCATIONS, SceneGraph, SceneObject

COLOURS = ("red", "brown", "yellow", "white", "silver", "blue")
NOUNS = ("anatomy", "thing", "object", "instrument")
TEMPLATES = {
    "F": "What anatomy is at the {loc} of the frame ?",
    "Z1": "What is the {np}?",
    "Z2": "There is a {np}, what is its name?",
    "O1": "What is the name of the {np} {that}{r1}?",
    "O2": "There is a {np} {that}{r1}; what is it?",
    "A1": "What is the name of the {np} that is {both}{r1} and {r2}?",
    "A2": "What name is the {np} that is {both}{r1} and {r2}?",
    "A3": "There is a {np} that is {both}{r1} and {r2}?; what is its name?",
    "A4": "There is a {np} that is {both}{r1} and {r2}?; what name is it?",
}
PAPER, CLINICAL = "paper", "clinical"
CLINICAL_TEMPLATES = {
    "F": "Which structure is at the {loc} of the image?",
    "Z1": "What lies at the {loc} of the image?",
    "Z2": "Something lies at the {loc} of the image; what is it?",
    "A1": "Which of these lies {r1} and {r2}?",
    "A2": "Which of these is found {r1} and {r2}?",
    "A3": "One of these lies {r1} and {r2}; which is it?",
    "A4": "One of these lies {r1} and {r2}; what is it called?",
    "O1": "Which of these lies {r1}?",
    "O2": "One of these lies {r1}; which is it?",
}
"""Two relations before one, as what two say could be read as one with a long name."""
CLINICAL_RELATIONS = (
    "anterior to",
    "posterior to",
    "superior to",
    "inferior to",
    "medial to",
    "lateral to",
    "to the patient's left of",
    "to the patient's right of",
    "higher in the image than",
    "lower in the image than",
    "further left in the image than",
    "further right in the image than",
)
SURFACES = {
    "above": ("above",),
    "below": ("below",),
    "left": ("left of", "to the left of", "on the left side of"),
    "right": ("right of", "to the right of", "on the right side of"),
}
"""Wordings of the directions; any other relation ("within", "retracted by") is its own wording."""
_CANONICAL = {wording: name for name, wordings in SURFACES.items() for wording in wordings}
_EQUIVALENT = {
    "Z1": ("Z2",),
    "Z2": ("Z1",),
    "O1": ("O2",),
    "O2": ("O1",),
    "A1": ("A3", "A4"),
    "A2": ("A3", "A4"),
    "A3": ("A1", "A2"),
    "A4": ("A1", "A2"),
}


@dataclass(frozen=True)
class NounPhrase:
    """``[colour] [location] [component] noun``."""

    noun: str
    location: str | None = None
    component: str | None = None
    """A structure or instrument in natural words (``cystic plate``); underscores join them in the text."""
    colour: str | None = None

    def __str__(self) -> str:
        component = self.component and self.component.replace(" ", "_")
        return " ".join(word for word in (self.colour, self.location, component, self.noun) if word)

    def matches(self, item: SceneObject) -> bool:
        """Whether ``item`` is such a thing."""
        return (
            self.colour in (None, item.colour)
            and self.location in (None, item.location)
            and self.component in (None, item.name)
            and (self.noun in ("thing", "object") or self.noun == item.kind)
        )


@dataclass(frozen=True)
class Relation:
    """``REL the NP``."""

    wording: str
    phrase: NounPhrase

    @property
    def name(self) -> str:
        """Name of the relation in a scene graph (``left`` for "to the left of")."""
        return _CANONICAL.get(self.wording, self.wording)

    def __str__(self) -> str:
        return f"{self.wording} the {self.phrase}"


@dataclass(frozen=True)
class Parsed:
    """What a stem says."""

    template: str
    phrase: NounPhrase
    """What is asked for; in template F the anatomy at a location."""
    relations: tuple[Relation, ...] = ()
    """None in F, Z1, Z2; one in O1, O2; two in A1 to A4."""
    that_is: bool = False
    """Whether an O template says "that is"."""
    both: bool = False
    """Whether an A template says "both"."""
    dialect: str = PAPER

    def named(self) -> frozenset[str]:
        """Components that the stem names."""
        phrases = (self.phrase, *(relation.phrase for relation in self.relations))
        return frozenset(phrase.component for phrase in phrases if phrase.component)


def _np(key: str) -> str:
    return (
        rf"(?:(?P<{key}colour>{'|'.join(COLOURS)}) )?(?:(?P<{key}loc>{'|'.join(LOCATIONS)}) )?"
        rf"(?:(?P<{key}part>\S+) )?(?P<{key}noun>{'|'.join(NOUNS)})"
    )


def _rel(key: str) -> str:
    wordings = "|".join((*_CANONICAL, "within", "horizontal", "vertical", "[a-z]+ by"))
    return rf"(?P<{key}rel>{wordings}) the {_np(key)}"


def _pattern(template: str) -> re.Pattern[str]:
    pieces = {
        "loc": f"(?P<loc>{'|'.join(LOCATIONS)}|None)",
        "np": _np("x"),
        "that": "(?P<that>that is )?",
        "both": "(?P<both>both )?",
        "r1": _rel("r"),
        "r2": _rel("s"),
    }
    return re.compile(re.sub(r"[?.]", r"\\\g<0>", TEMPLATES[template]).format(**pieces))


def _clinical(template: str) -> re.Pattern[str]:
    wordings = "|".join(CLINICAL_RELATIONS)
    pieces = {"loc": f"(?P<loc>{'|'.join(LOCATIONS)})"}
    pieces |= {f"r{at}": rf"(?P<{key}rel>{wordings}) the (?P<{key}part>.+?)" for at, key in ((1, "r"), (2, "s"))}
    return re.compile(re.sub(r"[?.]", r"\\\g<0>", CLINICAL_TEMPLATES[template]).format(**pieces))


_PATTERNS = {
    PAPER: {template: _pattern(template) for template in TEMPLATES},
    CLINICAL: {template: _clinical(template) for template in CLINICAL_TEMPLATES},
}


def parse(stem: str) -> Parsed | None:
    """Read a stem, in either dialect; None where it follows none of the templates.

    >>> parse("What is the name of the top-mid thing above the bottom-left anatomy?").relations[0].name
    'above'
    """
    for dialect, patterns in _PATTERNS.items():
        for template, pattern in patterns.items():
            if found := pattern.fullmatch(stem):
                return _read(template, {key: value for key, value in found.groupdict().items() if value}, dialect)
    return None


def _read(template: str, found: dict[str, str], dialect: str) -> Parsed:
    if "loc" in found:
        return Parsed(template, NounPhrase("anatomy", location=found["loc"]), dialect=dialect)
    phrase = _phrase if dialect == PAPER else _named
    relations = tuple(Relation(found[f"{key}rel"], phrase(found, key)) for key in "rs" if f"{key}rel" in found)
    return Parsed(template, phrase(found, "x"), relations, "that" in found, "both" in found, dialect)


def _named(found: dict[str, str], key: str) -> NounPhrase:
    return NounPhrase("anatomy", component=found.get(f"{key}part"))


def _phrase(found: dict[str, str], key: str) -> NounPhrase:
    component = found.get(f"{key}part")
    return NounPhrase(
        found[f"{key}noun"],
        found.get(f"{key}loc"),
        component and component.replace("_", " "),
        found.get(f"{key}colour"),
    )


def render(parsed: Parsed) -> str:
    """Write a stem; ``render(parse(stem)) == stem``."""
    if parsed.dialect == CLINICAL:
        links = [f"{link.wording} the {link.phrase.component}" for link in parsed.relations]
        first, second = (*links, "", "")[:2]
        return CLINICAL_TEMPLATES[parsed.template].format(loc=parsed.phrase.location, r1=first, r2=second)
    first, second = (*map(str, parsed.relations), "", "")[:2]
    return TEMPLATES[parsed.template].format(
        loc=parsed.phrase.location,
        np=parsed.phrase,
        r1=first,
        r2=second,
        that="that is " if parsed.that_is else "",
        both="both " if parsed.both else "",
    )


def rewrites(parsed: Parsed) -> tuple[Parsed, ...]:
    """The paper's other forms of the same question (Z1↔Z2, O1↔O2, {A1, A2}↔{A3, A4}); none for F."""
    return tuple(replace(parsed, template=other) for other in _EQUIVALENT.get(parsed.template, ()))


def resolve(parsed: Parsed, graph: SceneGraph) -> list[str]:
    """Names of the objects that the question may ask for, empty where a phrase it refers to is not unique.

    A question is sound where exactly one object is left and that one is an anatomy.
    """
    left = [i for i, item in enumerate(graph.objects) if parsed.phrase.matches(item)]
    for relation in parsed.relations:
        referents = [j for j, item in enumerate(graph.objects) if relation.phrase.matches(item)]
        table = graph.relations.get(relation.name)
        if len(referents) != 1 or table is None:
            return []
        left = [i for i in left if referents[0] in table[i]]
    return [graph.objects[i].name for i in left]
