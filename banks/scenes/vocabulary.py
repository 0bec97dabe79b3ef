"""What scenes show, and how it looks: every kind of tissue is a colour and how much of each texture it carries.

``six`` are the structures of the paper's rows. ``ssg`` are the 13 of SSG-VQA (arXiv 2312.10251), drawn so that likeness
has a hierarchy: two look-alikes within a family, families within dark and light tissue.
"""

from collections.abc import Mapping
from dataclasses import astuple, dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from anatomy_r1.banks.scenes.instruments import INSTRUMENTS


@dataclass(frozen=True)
class Appearance:
    """Colour in [0, 1] and texture strengths of one kind of tissue."""

    red: float
    green: float
    blue: float
    grain: float
    """Fine mottling."""
    lobules: float
    """Fat lobules: rounded bumps with dark clefts."""
    folds: float
    """Broad parallel folds."""
    streaks: float
    """Fine parallel fibres."""
    vessels: float
    """Thin red vessels."""
    gloss: float
    """Strength of wet highlights."""


BACKGROUND = Appearance(0.24, 0.16, 0.14, 0.6, 0.0, 0.0, 0.0, 0.3, 0.12)
APPEARANCE = {
    "liver": Appearance(0.47, 0.15, 0.12, 0.9, 0.0, 0.0, 0.0, 0.0, 0.40),
    "gallbladder": Appearance(0.54, 0.69, 0.62, 0.1, 0.0, 0.0, 0.0, 0.6, 0.75),
    "cystic plate": Appearance(0.74, 0.71, 0.52, 0.3, 0.0, 0.0, 0.7, 0.1, 0.40),
    "omentum": Appearance(0.86, 0.68, 0.24, 0.2, 1.0, 0.0, 0.0, 0.6, 0.30),
    "gut": Appearance(0.86, 0.56, 0.44, 0.1, 0.0, 1.0, 0.0, 0.4, 0.40),
    "abdominal wall cavity": Appearance(0.66, 0.31, 0.28, 0.3, 0.0, 0.0, 1.0, 0.2, 0.30),
    "adhesion": Appearance(0.90, 0.82, 0.52, 0.1, 0.0, 0.0, 1.0, 0.0, 0.20),
    "blood vessel": Appearance(0.44, 0.12, 0.28, 0.1, 0.0, 0.0, 0.0, 1.0, 0.60),
    "cystic artery": Appearance(0.72, 0.20, 0.16, 0.0, 0.0, 0.0, 0.3, 0.9, 0.50),
    "cystic duct": Appearance(0.66, 0.82, 0.50, 0.1, 0.0, 0.4, 0.0, 0.2, 0.60),
    "cystic pedicle": Appearance(0.62, 0.30, 0.44, 0.2, 0.3, 0.0, 0.4, 0.5, 0.35),
    "fluid": Appearance(0.34, 0.03, 0.03, 0.0, 0.0, 0.0, 0.0, 0.0, 0.95),
    "peritoneum": Appearance(0.84, 0.50, 0.56, 0.1, 0.0, 0.2, 0.5, 0.3, 0.70),
}


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """The structures that a bank's scenes show."""

    structures: tuple[str, ...]
    look_alikes: tuple[tuple[str, ...], ...]
    """Families. A scene moves the colour of each member towards the next one's, of the last towards the first one's."""
    distance: float
    """Of two look-alikes' colours, in standard deviations of that move."""
    families: tuple[tuple[str, ...], ...] = ()
    """Coarser kinds: what somebody who sees no detail takes for one. Empty: the look-alikes."""

    @cached_property
    def names(self) -> Mapping[int, str]:
        """Label → structure or instrument; 0 is background."""
        return {i + 1: name for i, name in enumerate((*self.structures, *INSTRUMENTS))}

    @cached_property
    def kinds(self) -> Mapping[str, str]:
        """Name → ``instrument`` or ``anatomy``."""
        return {name: "instrument" if name in INSTRUMENTS else "anatomy" for name in self.names.values()}

    @cached_property
    def table(self) -> NDArray[np.float32]:
        """Appearance of background and structures, by label, ``(1 + K, 9)``."""
        rows = (BACKGROUND, *(APPEARANCE[name] for name in self.structures))
        return np.array([astuple(row) for row in rows], dtype=np.float32)

    @cached_property
    def twins(self) -> list[int]:
        """For each row of ``table`` the row of what it is taken for."""
        taken = {a: b for alike in self.look_alikes for a, b in zip(alike, alike[1:] + alike[:1], strict=True)}
        return [0, *(1 + self.structures.index(taken[name]) for name in self.structures)]

    def features(self) -> NDArray[np.float64]:
        """Appearance of the structures as centred rows ``(K, F)``: brightness, red-green, yellow-blue, then textures.

        Brightness weighs most and texture least, as in a glance; look-alikes are nearest neighbours. Where there are
        families, columns that tell them and the look-alikes come first.
        """
        red, green, blue, *texture = self.table[1:].astype(np.float64).T
        brightness, red_green, yellow_blue = (red + green + blue) / 3, red - green, (red + green) / 2 - blue
        rows = np.stack([3 * brightness, 2 * red_green, yellow_blue, *(0.1 * strength for strength in texture)], axis=1)
        kinds = self.families + self.look_alikes if self.families else ()
        kin = np.array([[name in kind for kind in kinds] for name in self.structures], dtype=np.float64)
        rows = np.hstack([kin, rows / 2 if kinds else rows])
        return np.asarray(rows - rows.mean(axis=0))


SIX = Vocabulary(
    ("liver", "gallbladder", "cystic plate", "omentum", "gut", "abdominal wall cavity"),
    (("gallbladder", "cystic plate"), ("omentum", "gut"), ("liver", "abdominal wall cavity")),
    distance=2.8,
)
SSG = Vocabulary(
    tuple(sorted(APPEARANCE)),
    (
        ("liver", "blood vessel", "fluid"),
        ("abdominal wall cavity", "cystic artery", "cystic pedicle"),
        ("gut", "peritoneum"),
        ("omentum", "adhesion"),
        ("gallbladder", "cystic duct", "cystic plate"),
    ),
    distance=3.5,
    families=(
        ("liver", "blood vessel", "fluid", "abdominal wall cavity", "cystic artery", "cystic pedicle"),
        ("gut", "peritoneum", "omentum", "adhesion", "gallbladder", "cystic duct", "cystic plate"),
    ),
)
VOCABULARIES = {"six": SIX, "ssg": SSG}
