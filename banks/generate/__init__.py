"""Questions made from what is in a frame: scene graph, grammar, question generator, and the banks over them."""

from anatomy_r1.banks.generate.generated_bank import SPLITS, MadeBank
from anatomy_r1.banks.generate.grammar import (
    CLINICAL,
    COLOURS,
    SURFACES,
    NounPhrase,
    Parsed,
    Relation,
    parse,
    render,
)
from anatomy_r1.banks.generate.grounding import Verdicts, judge_thought
from anatomy_r1.banks.generate.marker import ring
from anatomy_r1.banks.generate.questions import QUESTION_TYPES, Draft, Marked, ask, compose, draw, shuffle_in
from anatomy_r1.banks.generate.scene_graph import (
    DIRECTIONS,
    LOCATIONS,
    Regions,
    SceneGraph,
    SceneObject,
    graph_from_labels,
)
from anatomy_r1.banks.generate.scene_graph_bank import GraphBank, parts_of, split_groups

__all__ = [
    "CLINICAL",
    "COLOURS",
    "DIRECTIONS",
    "LOCATIONS",
    "QUESTION_TYPES",
    "SPLITS",
    "SURFACES",
    "Draft",
    "GraphBank",
    "MadeBank",
    "Marked",
    "NounPhrase",
    "Parsed",
    "Regions",
    "Relation",
    "SceneGraph",
    "SceneObject",
    "Verdicts",
    "ask",
    "compose",
    "draw",
    "graph_from_labels",
    "judge_thought",
    "parse",
    "parts_of",
    "render",
    "ring",
    "shuffle_in",
    "split_groups",
]
