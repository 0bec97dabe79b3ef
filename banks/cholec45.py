"""What the question sets on CholecT45 share: videos and their splits, frames, structures, instruments, colours."""

import re
from pathlib import Path

from anatomy_r1.core import AnatomyError, ImageFolder

SPLITS = ("train", "validation", "test")
_TEST = frozenset({"VID22", "VID74", "VID60", "VID02", "VID43"})
_VALIDATION = frozenset({"VID18", "VID48", "VID01", "VID35", "VID31"})
STRUCTURES = (
    "abdominal wall cavity",
    "adhesion",
    "blood vessel",
    "cystic artery",
    "cystic duct",
    "cystic pedicle",
    "cystic plate",
    "fluid",
    "gallbladder",
    "gut",
    "liver",
    "omentum",
    "peritoneum",
)
RELEASED = ("liver", "omentum", "abdominal wall cavity", "gallbladder", "cystic plate", "gut")
"""The structures of Anatomy-R1's rows."""
INSTRUMENTS = ("bipolar", "clipper", "grasper", "hook", "irrigator", "scissors", "specimen bag")
VERBS = ("aspirate", "clip", "coagulate", "cut", "dissect", "grasp", "irrigate", "pack", "retract")
CLASS_COLOURS = {
    "liver": "brown",
    "omentum": "yellow",
    "gallbladder": "white",
    "gut": "red",
    "abdominal wall cavity": "red",
    "cystic plate": "red",
    "cystic duct": "red",
    "grasper": "silver",
    "clipper": "silver",
    "scissors": "silver",
    "irrigator": "silver",
    "hook": "white",
    "specimen bag": "white",
    "bipolar": "blue",
}
"""Colour words of SSG-VQA: a constant of the class, so that in its questions the colour names the thing."""
FREQUENCY = {
    **dict.fromkeys(RELEASED, 40),
    "grasper": 12,
    "hook": 10,
    "specimen bag": 2,
    **dict.fromkeys(("red", "brown", "yellow", "white"), 6),
    "silver": 2,
}
"""Roughly how often each is an answer; 1 where missing. Wrong options drawn as often give the common ones no lead."""
_OVERLAPS = (
    {"cystic pedicle", "cystic artery", "cystic duct"},
    {"blood vessel", "cystic artery", "cystic pedicle"},
)
"""Parts and wholes: where one of them is right, another might pass for right."""
FRAME_ROOTS = ("CholecT45/data", "CholecT50/videos", "data", "videos", "")
FRAME_SUFFIXES = (".png", ".jpg", ".jpeg")
_FRAME = re.compile(r"(?:.*/)?(VID\d{2})/(\d{1,6})\.png")


def split_of(video: str) -> str:
    """SSG-VQA's official split of a video (``VID01``)."""
    return "test" if video in _TEST else "validation" if video in _VALIDATION else "train"


def rivals(structure: str) -> frozenset[str]:
    """Structures that can't be called wrong where ``structure`` is right, itself included."""
    return frozenset({structure}.union(*(group for group in _OVERLAPS if structure in group)))


def natural(name: str) -> str:
    """A component in natural words.

    >>> natural("specimenbag")
    'specimen bag'
    """
    words = " ".join(name.strip().lower().replace("_", " ").split())
    return "specimen bag" if words == "specimenbag" else words


def frame_of(path: str) -> tuple[str, int]:
    """Video and frame number of a path such as ``/CholecT45/data/VID66/000791.png``.

    Raises:
        AnatomyError: it names no frame.
    """
    found = _FRAME.fullmatch(path.strip())
    if found is None:
        raise AnatomyError(f"expected a frame …/VIDxx/000000.png, got {path[:200]!r}.")
    return found[1], int(found[2])


def frame_file(images: ImageFolder, prefix: str, video: str, number: int) -> str:
    """Relative path of a frame, as PNG or JPEG, its number padded to six digits or not.

    Raises:
        AnatomyError: there is none of these.
    """
    ways = [f"{prefix}{video}/{name}{suffix}" for suffix in FRAME_SUFFIXES for name in (f"{number:06d}", f"{number}")]
    found = next((way for way in ways if images.has(way)), ways[0])
    images.check(found)
    return found


def frame_root(root: Path, required: bool = True) -> str:
    """Prefix below ``root`` under which the videos' folders are; where they are not required, maybe none."""
    for prefix in FRAME_ROOTS:
        folder = root / prefix
        if folder.is_dir() and any(folder.glob("VID[0-9][0-9]")):
            return f"{prefix}/" if prefix else ""
    if not required:
        return ""
    raise AnatomyError(
        f"{root}: no frames; expected folders VIDxx in it or in {', '.join(FRAME_ROOTS[:-1])}.\n"
        "The frames of CholecT45 are its owners' to give; name their folder with the option images."
    )
