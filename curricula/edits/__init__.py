"""What makes another form of a question: edits of its words, options, prompt and image."""

from anatomy_r1.curricula.edits.images import EditedImage
from anatomy_r1.curricula.edits.registry import make_edits
from anatomy_r1.curricula.edits.variants import (
    Counting,
    Edit,
    Edited,
    GrammarRewrite,
    PermuteOptions,
    distinct_variants,
)

__all__ = [
    "Counting",
    "Edit",
    "Edited",
    "EditedImage",
    "GrammarRewrite",
    "PermuteOptions",
    "distinct_variants",
    "make_edits",
]
