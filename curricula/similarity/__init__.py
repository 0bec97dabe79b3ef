"""How alike structures are, and S(q): how alike the options of a question are."""

from anatomy_r1.curricula.similarity.confusion import Confusion, to_dense, to_sparse
from anatomy_r1.curricula.similarity.matrix import Indices, Similarity
from anatomy_r1.curricula.similarity.measures import (
    CONFUSION,
    OptionSimilarity,
    Spec,
    feature_similarity,
    make_similarity,
    parse_blend,
    structure_features,
)
from anatomy_r1.curricula.similarity.taxonomy import FOLDER, read_taxonomy
from anatomy_r1.curricula.similarity.visual import Encoder, visual_features

__all__ = [
    "CONFUSION",
    "FOLDER",
    "Confusion",
    "Encoder",
    "Indices",
    "OptionSimilarity",
    "Similarity",
    "Spec",
    "feature_similarity",
    "make_similarity",
    "parse_blend",
    "read_taxonomy",
    "structure_features",
    "to_dense",
    "to_sparse",
    "visual_features",
]
