"""Which structure is a part or a kind of which: trees of anatomical names, and Wu–Palmer similarity in them.

``taxonomies/*.json`` hold ours, to be read and changed: a title, sources, and per node its ``parent`` and, where
known, ``synonyms`` and ``fma`` (the number in the Foundational Model of Anatomy). A name such as ``left hippocampus``
that is no node of its own stands below ``hippocampus``.
"""

from collections import Counter
from collections.abc import Sequence
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np

from anatomy_r1.core import SMALL, AnatomyError, Floats, normalise, read_json

FOLDER = Path(__file__).parent / "taxonomies"
_SIDES = ("left ", "right ")


class Taxonomy:
    """A tree of names.

    Args:
        parents: normalised name → parent's name, None for the root.
        synonyms: other normalised names → name.
        name: what error messages call it.

    Raises:
        AnatomyError: not exactly one root, a parent that is no node, or a circle.
    """

    def __init__(self, parents: dict[str, str | None], synonyms: dict[str, str], name: str) -> None:
        self.name = name
        self._parents, self._synonyms = parents, synonyms
        roots = [node for node, parent in parents.items() if parent is None]
        if len(roots) != 1:
            raise AnatomyError(f"taxonomy {name}: expected one node without a parent, got {roots}.")
        for node in parents:
            self._path(node)

    @cached_property
    def nodes(self) -> tuple[str, ...]:
        """Names of all nodes."""
        return tuple(self._parents)

    def path(self, name: str) -> tuple[str, ...] | None:
        """Nodes from the root to ``name``; None where the tree lacks it."""
        key = normalise(name)
        if (node := self._node(key)) is not None:
            return self._path(node)
        for side in _SIDES:
            if key.startswith(side) and (node := self._node(key.removeprefix(side))) is not None:
                return (*self._path(node), key)
        return None

    def lacks(self, names: Sequence[str]) -> list[str]:
        """Those of ``names`` that the tree lacks."""
        return [name for name in names if self.path(name) is None]

    def wu_palmer(self, names: Sequence[str]) -> Floats:
        """Similarity of each two names ``(K, K)``: twice the depth of what they share, over the sum of their depths.

        The root has depth 1.

        Raises:
            AnatomyError: the tree lacks some of the names; all are listed.
        """
        if missing := self.lacks(names):
            raise AnatomyError(f"taxonomy {self.name} lacks {len(missing)} structures: {missing}.")
        paths = [self.path(name) or () for name in names]
        values = np.eye(len(names))
        for i, one in enumerate(paths):
            for j, other in enumerate(paths[:i]):
                shared = sum(a == b for a, b in zip(one, other, strict=False))
                values[i, j] = values[j, i] = 2 * shared / (len(one) + len(other))
        return values

    def _node(self, key: str) -> str | None:
        return key if key in self._parents else self._synonyms.get(key)

    def _path(self, node: str) -> tuple[str, ...]:
        path: list[str] = []
        step: str | None = node
        while step is not None:
            if step in path or step not in self._parents:
                what = "is above itself" if step in path else "is a parent but no node"
                raise AnatomyError(f"taxonomy {self.name}: {step!r} {what}.")
            path.append(step)
            step = self._parents[step]
        return tuple(reversed(path))


@cache
def read_taxonomy(path: Path) -> Taxonomy:
    """Read a taxonomy's JSON file.

    Raises:
        AnatomyError: no such file, not of the form above, a name twice, or no tree.
    """
    try:
        nodes = read_json(path, SMALL)["nodes"]
        parents = {normalise(name): _parent(node) for name, node in nodes.items()}
        pairs = [(text, name) for name, node in nodes.items() for text in node.get("synonyms", ())]
        synonyms = {normalise(text): normalise(name) for text, name in pairs}
    except (AnatomyError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise AnatomyError(
            f"{path}: expected a taxonomy as in {FOLDER.name}/: nodes, each with a parent or null ({error!r})."
        ) from None
    keys = [normalise(name) for name in (*nodes, *(text for text, _ in pairs))]
    if repeated := sorted(key for key, count in Counter(keys).items() if count > 1):
        raise AnatomyError(f"{path}: names or synonyms occur twice: {repeated}.")
    return Taxonomy(parents, synonyms, path.stem if path.parent == FOLDER else str(path))


def _parent(node: dict[str, Any]) -> str | None:
    return None if node["parent"] is None else normalise(node["parent"])


def find_taxonomy(spec: str | None, structures: Sequence[str]) -> Taxonomy:
    """The taxonomy of that name or path; without one, the first of ours that knows all ``structures``.

    Raises:
        AnatomyError: none is of that name or knows all of them, or the file is broken.
    """
    known = {path.stem: path for path in sorted(FOLDER.glob("*.json"))}
    if spec is not None:
        if spec not in known and not spec.endswith(".json"):
            raise AnatomyError(f"unknown taxonomy {spec!r}; known: {', '.join(known)}, or a path ending in .json.")
        return read_taxonomy(known.get(spec, Path(spec)))
    lacks = {name: read_taxonomy(path).lacks(structures) for name, path in known.items()}
    best = min(lacks, key=lambda name: len(lacks[name]))
    if lacks[best]:
        raise AnatomyError(
            f"no taxonomy knows all the bank's structures; {best!r} lacks {len(lacks[best])}: {lacks[best]}. "
            "Use ontology:FILE.json, or another similarity."
        )
    return read_taxonomy(known[best])
