"""Edits by name, so that a config can list them: ``edits="grammar,synonyms,permute,style"``."""

from collections.abc import Sequence

from anatomy_r1.banks import Bank
from anatomy_r1.core import AnatomyError, Registry
from anatomy_r1.curricula.edits.images import IMAGE_EDITS, Flip
from anatomy_r1.curricula.edits.paraphrase import Paraphrase
from anatomy_r1.curricula.edits.scaffold import Locate, Unlike
from anatomy_r1.curricula.edits.variants import Edit, GrammarRewrite, PermuteOptions
from anatomy_r1.curricula.edits.wording import FrameRewrite, Instruction, OptionStyle, Synonyms

EDITS: Registry[Edit] = Registry("edit", "anatomy_r1.edits")
PRESETS = {
    "default": "grammar,permute",
    "wordings": "grammar,frame,synonyms,permute,style,instruction",
    "grammatical": "grammar,frame,synonyms,permute,style,instruction,colour,contrast,blur,jpeg",
    "scaffold": "unlike,locate,permute",
    "free-form": "permute,instruction,colour,contrast,blur,jpeg,rotate",
}
"""``default`` is the paper's rewrites and permutation; ``wordings`` all that leaves the image alone, so that a group
still shares it; ``grammatical`` image changes too; ``scaffold`` easier forms of the same question; ``free-form`` is for
stems outside the grammar."""


def _register() -> None:
    for kind in (GrammarRewrite, FrameRewrite, Synonyms, PermuteOptions, OptionStyle, Instruction, Flip, Locate):
        EDITS.register(kind.name)(lambda *, bank, kind=kind: kind())
    for name, edit in IMAGE_EDITS.items():
        EDITS.register(name)(lambda *, bank, edit=edit: edit)
    EDITS.register(Unlike.name)(lambda count=1, *, bank: Unlike(bank, count))
    EDITS.register("llm")(lambda endpoint, *, bank: Paraphrase(endpoint, anatomy=bank.structures))


_register()


def make_edits(spec: str | Sequence[str | Edit], bank: Bank) -> tuple[Edit, ...]:
    """Build edits from a preset's name, names with commas between them, or a sequence of names and objects.

    Raises:
        AnatomyError: no edits, one twice, or an unknown one.
    """
    items = PRESETS.get(spec, spec).split(",") if isinstance(spec, str) else list(spec)
    edits = tuple(EDITS.make(item.strip(), context={"bank": bank}) if isinstance(item, str) else item for item in items)
    names = [edit.name for edit in edits]
    if not names or len(set(names)) < len(names):
        raise AnatomyError(f"gdqa: expected one or more different edits, got {', '.join(names) or 'none'}.")
    return edits
