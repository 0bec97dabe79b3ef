"""Words for directions in slices of volumes: the patient's, as radiologists speak, or the image's; never both.

Named sides of structures are the patient's. So a stem in the patient's terms may name the left kidney, and one that
speaks of the image may not.
"""

import re
from dataclasses import dataclass

ANATOMICAL, IMAGE = "anatomical", "image"
TERMS = (ANATOMICAL, IMAGE)
_PATIENT = {
    "axial": {
        "above": "anterior to",
        "below": "posterior to",
        "left": "to the patient's right of",
        "right": "to the patient's left of",
    },
    "coronal": {
        "above": "superior to",
        "below": "inferior to",
        "left": "to the patient's right of",
        "right": "to the patient's left of",
    },
    "sagittal": {"above": "superior to", "below": "inferior to", "left": "anterior to", "right": "posterior to"},
}
_IMAGE = {
    "above": "higher in the image than",
    "below": "lower in the image than",
    "left": "further left in the image than",
    "right": "further right in the image than",
}
_SIDE = re.compile(r"\b(left|right)\b")
_COUNTED = re.compile(r"[CTLSctls]?\d{1,2}(?:st|nd|rd|th)?")
_MIDDLE = re.compile(r"atri|ventric|heart|brachiocephalic")
"""Named by a side, but near the midline or across it."""


@dataclass(frozen=True)
class Terms:
    """How directions are called."""

    kind: str
    """``anatomical`` or ``image``."""
    plane: str
    oriented: bool
    """Whether it is known how the patient lies; if not, sides are not asked about."""

    def words(self, direction: str, name: str, other: str) -> str:
        """How ``name`` lies to ``other``, which is in that direction of the image; empty: it can't be said."""
        if self.kind == IMAGE or not self.oriented:
            blind = not self.oriented and direction in ("left", "right")
            return "" if blind or side_of(other) else _IMAGE[direction]
        side = side_of(other)
        if direction in ("left", "right") and self.plane != "sagittal" and side and side == side_of(name):
            if _MIDDLE.search(f"{name} {other}"):
                return _PATIENT[self.plane][direction]
            return "medial to" if side == direction else "lateral to"  # the patient's left is on the image's right
        return _PATIENT[self.plane][direction]


def side_of(name: str) -> str:
    """``left`` or ``right``, where a name has one of them; else empty."""
    found = set(_SIDE.findall(name))
    return found.pop() if len(found) == 1 else ""


def series_of(name: str, twins: bool) -> tuple[str, ...]:
    """The words of a name that tell it from others on one slice, sorted.

    Which vertebra or rib it is takes counting, which a slice seldom allows; ``twins``: nor does it tell left and right.
    """
    words = name.split()
    if {"vertebra", "vertebrae", "rib"} & set(words):
        words = [word for word in words if not _COUNTED.fullmatch(word)]
    return tuple(sorted(word for word in words if not (twins and word in ("left", "right"))))


def preface_of(plane: str, modality: str, window: str, oriented: bool) -> str:
    """What is said of a slice before it is asked about: plane, modality, window and display."""
    window = f", {window} window" if window else ""
    if not oriented:
        return f"{' '.join((*modality.split(), 'slice'))}{window}, orientation unknown."
    shown = "anterior on the left" if plane == "sagittal" else "radiological display"
    return f"{' '.join((plane.capitalize(), *modality.split(), 'slice'))}{window}, {shown}."
