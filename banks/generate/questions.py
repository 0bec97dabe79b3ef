"""From a scene graph to a question: one answer, checked, and nothing in the words that gives it away.

Leaks are avoided by construction. The answer is drawn first and uniformly from what is visible; its phrase does not
name it, nor its colour unless the graph gives it one; a structure that the stem names is never an option, because it
could not be right either; and structures that the frame lacks stay among the options.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np

from anatomy_r1.banks.generate.grammar import SURFACES, TEMPLATES, NounPhrase, Parsed, Relation, render, resolve
from anatomy_r1.banks.generate.scene_graph import SceneGraph, SceneObject
from anatomy_r1.core import AnatomyError, ImageSource, Question

T = TypeVar("T")
WEIGHTS: Mapping[str, float] = {"F": 0.40, "Z1": 0.15, "O1": 0.25, "A1": 0.10, "A2": 0.10}
"""Default shares of the templates; the others are reached by rewriting."""
QUESTION_TYPES = {"F": "location", "Z": "zero-hop", "O": "one-hop", "A": "single-and"}
_TRIES = 8


@dataclass(frozen=True)
class Draft:
    """A question without its image and options."""

    stem: str
    structure: str
    """The right answer."""
    pool: tuple[str, ...]
    """Structures known to be wrong answers and not named in the stem."""
    question_type: str
    details: Mapping[str, Any]

    def question(
        self,
        options: tuple[tuple[str, ...], int],
        *,
        id: str,
        image: ImageSource,
        modality: str,
        group_key: str,
        source: str,
        preface: str = "",
    ) -> Question:
        """The question itself, given its options and the index of the right one."""
        return Question(
            id=id,
            image=image,
            stem=self.stem,
            options=options[0],
            answer=options[1],
            structure=self.structure,
            question_type=self.question_type,
            modality=modality,
            group_key=group_key,
            source=source,
            distractors=self.pool,
            details=self.details,
            preface=preface,
        )


@dataclass(frozen=True, kw_only=True)
class Phrased(Draft):
    """A draft by the grammar."""

    parsed: Parsed


@dataclass(frozen=True, kw_only=True)
class Marked(Draft):
    """A draft about a marked point."""

    marker: tuple[float, float]
    """x and y, as shares of width and height."""


def ask(
    graph: SceneGraph,
    rng: np.random.Generator,
    structures: Sequence[str],
    *,
    n_options: int = 4,
    weights: Mapping[str, float] = WEIGHTS,
) -> Phrased | None:
    """Draw a question about ``graph``, or None where it affords none.

    Args:
        graph: what is in the frame.
        rng: source of every choice.
        structures: everything that may be an option.
        n_options: options that the question will have; the pool holds at least one less.
        weights: relative shares of templates. A template that can't be used for the drawn answer is drawn again.

    Raises:
        AnatomyError: ``weights`` names a template that the grammar lacks.
    """
    if unknown := sorted(weights.keys() - TEMPLATES.keys()):
        raise AnatomyError(f"question templates: no {', '.join(unknown)}; there are {', '.join(TEMPLATES)}.")
    answers = [i for i in graph.of_kind("anatomy") if graph.objects[i].name in structures]
    for answer in rng.permutation(answers).tolist():
        left = {template: weight for template, weight in weights.items() if weight > 0}
        while left:
            template = draw(left, rng)
            del left[template]
            for _ in range(_TRIES if template != "F" else 1):
                if (parsed := _phrase_question(template, answer, graph, rng)) is None:
                    continue
                draft = _draft(parsed, answer, graph, structures)
                if draft is not None and len(draft.pool) >= n_options - 1:
                    return draft
    return None


def _phrase_question(template: str, answer: int, graph: SceneGraph, rng: np.random.Generator) -> Parsed | None:
    item = graph.objects[answer]
    location = item.location or None
    if template == "F":
        return Parsed("F", NounPhrase("anatomy", location=location)) if location else None
    noun = _pick(rng, ("anatomy", "thing", "object"))
    colour = _colour(item, rng)
    if template in ("Z1", "Z2"):
        return Parsed(template, NounPhrase(noun, location=location, colour=colour))
    links = [(name, j) for name, table in graph.relations.items() for j in table[answer]]
    count = 1 if template in ("O1", "O2") else 2
    if len(links) < count:
        return None
    chosen = [_link(links[k], graph, rng) for k in rng.permutation(len(links)).tolist()[:count]]
    place = location if rng.random() < 0.4 else None
    coin = bool(rng.integers(2))
    phrase = NounPhrase(noun, place, colour=colour)
    return Parsed(template, phrase, tuple(chosen), that_is=count == 1 and coin, both=count == 2 and coin)


def _link(link: tuple[str, int], graph: SceneGraph, rng: np.random.Generator) -> Relation:
    """Word a relation to an object, which is named, located, or both."""
    name, referent = link
    item = graph.objects[referent]
    named, located = _pick(rng, ((True, False), (True, False), (False, True), (True, True)))
    noun = _pick(rng, (item.kind, "thing", "object"))
    place, name_of = (item.location or None) if located else None, item.name if named else None
    phrase = NounPhrase(noun, place, name_of, _colour(item, rng))
    return Relation(_pick(rng, SURFACES.get(name, (name,))), phrase)


def _colour(item: SceneObject, rng: np.random.Generator) -> str | None:
    """The thing's colour, where it has one, half the time."""
    return item.colour if item.colour is not None and rng.random() < 0.5 else None


def _draft(parsed: Parsed, answer: int, graph: SceneGraph, structures: Sequence[str]) -> Phrased | None:
    item = graph.objects[answer]
    if resolve(parsed, graph) != [item.name]:
        return None
    pool = tuple(name for name in structures if name != item.name and name not in parsed.named())
    details = {"template": parsed.template, "location": item.location}
    return Phrased(render(parsed), item.name, pool, QUESTION_TYPES[parsed.template[0]], details, parsed=parsed)


def _pick(rng: np.random.Generator, choices: Sequence[T]) -> T:
    return choices[int(rng.integers(len(choices)))]


def draw(weights: Mapping[str, float], rng: np.random.Generator) -> str:
    """One of the keys, by their weights."""
    shares = np.array(list(weights.values()))
    return list(weights)[rng.choice(len(shares), p=shares / shares.sum())]


def shuffle_in(answer: str, wrong: Sequence[str], rng: np.random.Generator) -> tuple[tuple[str, ...], int]:
    """All of ``wrong`` with the answer at a random place; the options and that place."""
    place = int(rng.integers(len(wrong) + 1))
    return (*wrong[:place], answer, *wrong[place:]), place


def compose(
    answer: str, pool: Sequence[str], rng: np.random.Generator, n_options: int = 4
) -> tuple[tuple[str, ...], int]:
    """Draw ``n_options - 1`` wrong options from ``pool`` and shuffle the answer in.

    Returns:
        The options and the index of the right one.

    Raises:
        AnatomyError: the pool is too small.
    """
    if len(pool) < n_options - 1:
        raise AnatomyError(f"{n_options} options need {n_options - 1} wrong answers; only {len(pool)} are known.")
    place = int(rng.integers(n_options))
    wrong = [pool[k] for k in rng.permutation(len(pool))[: n_options - 1]]
    return (*wrong[:place], answer, *wrong[place:]), place


def with_options(question: Question, options: Sequence[str], answer: int) -> Question:
    """The same question with other options, the right one at index ``answer``."""
    return replace(question, options=tuple(options), answer=answer)
