"""Scene graphs of SSG-VQA: read, checked against their own boxes, and turned into ours.

The data's description and its files differ on which way a relation reads: is ``left[i]`` what ``i`` is left of, or what
is left of ``i``? The boxes tell. A graph in which they tell both is refused.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from reprlib import repr as shown
from typing import Any

from anatomy_r1.banks.cholec45 import CLASS_COLOURS, VERBS, natural
from anatomy_r1.banks.generate import DIRECTIONS, LOCATIONS, SceneGraph, SceneObject
from anatomy_r1.core import AnatomyError, read_json

WIDTH, HEIGHT = 430, 240
"""Frame in which the boxes are given."""
_OPPOSITE = {"above": "below", "below": "above", "left": "right", "right": "left"}
_DONE = {
    "aspirate": "aspirated by",
    "clip": "clipped by",
    "coagulate": "coagulated by",
    "cut": "cut by",
    "dissect": "dissected by",
    "grasp": "grasped by",
    "irrigate": "irrigated by",
    "pack": "packed by",
    "retract": "retracted by",
}
_AXES = {"left": (0, -1), "right": (0, 1), "above": (1, -1), "below": (1, 1)}
Table = tuple[tuple[int, ...], ...]


def read_graph(path: Path, colour: str) -> tuple[str, SceneGraph]:
    """Frame name (``VID01_0``) and graph of a file.

    Args:
        path: a ``scene_graph`` JSON file.
        colour: ``per-class``: things get the colour word that SSG-VQA gives their class; ``none``: none.

    Raises:
        AnatomyError: broken, or contradicting itself; the message names the objects.
    """
    data = read_json(path)
    try:
        scene = data["scenes"][0]
        raw, relations, name = scene["objects"], scene["relationships"], scene["image_filename"]
    except (KeyError, IndexError, TypeError):
        raise AnatomyError(f"{path}: expected scenes[0] with objects, relationships and image_filename.") from None
    try:
        if not isinstance(raw, list) or not isinstance(relations, dict) or not isinstance(name, str):
            raise AnatomyError("expected a list of objects, an object of relationships and a file name.")
        objects = tuple(_object(item, number, colour) for number, item in enumerate(raw))
        tables = {key: _table(value, key, len(objects)) for key, value in relations.items()}
        return name, SceneGraph(WIDTH, HEIGHT, objects, _relations(tables, objects))
    except AnatomyError as error:
        raise AnatomyError(f"{path}: {error}") from None


def _object(item: Any, number: int, colour: str) -> SceneObject:
    try:
        x0, y0, x1, y1 = (_number(value) for value in item["bbox"])
        x, y = (_number(value) for value in item["center"])
        component, kind, location = (str(item[key]) for key in ("component", "type", "location"))
    except (KeyError, TypeError, ValueError):
        wanted = "bbox of 4 numbers, center of 2, component, type and location"
        raise AnatomyError(f"object {number}: expected {wanted}, got {shown(item)}.") from None
    name = natural(component)
    if kind not in ("anatomy", "instrument") or location not in LOCATIONS or not name.replace(" ", "").isalpha():
        raise AnatomyError(f"object {number}: no such type, location or component: {kind}, {location}, {name[:40]}.")
    if not (0 <= x0 <= x1 <= WIDTH and 0 <= y0 <= y1 <= HEIGHT and x0 - 1 <= x <= x1 + 1 and y0 - 1 <= y <= y1 + 1):
        raise AnatomyError(f"object {number} ({name}): box {[x0, y0, x1, y1]} does not hold its center {[x, y]}.")
    if not reaches((x0, y0, x1, y1), location):
        raise AnatomyError(f"object {number} ({name}): box {[x0, y0, x1, y1]} does not reach its location {location}.")
    shade = CLASS_COLOURS.get(name) if colour == "per-class" else None
    return SceneObject(name, kind, (x0, y0, x1, y1), (x, y), location, int((x1 - x0) * (y1 - y0)), shade)


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e6:
        raise ValueError(value)
    return float(value)


def reaches(box: tuple[float, float, float, float], location: str) -> bool:
    """Whether a box meets a cell of the frame."""
    row, column = divmod(LOCATIONS.index(location), 3)
    width, height = WIDTH / 3, HEIGHT / 3
    across = box[0] <= (column + 1) * width and box[2] >= column * width
    return across and box[1] <= (row + 1) * height and box[3] >= row * height


def _table(value: Any, key: str, count: int) -> Table:
    rows = value if isinstance(value, list) and len(value) == count else None
    if rows is None or not all(isinstance(row, list) for row in rows):
        raise AnatomyError(f"relation {key!r}: expected a list of indices for each of {count} objects.")
    for i, row in enumerate(rows):
        for j in row:
            if not isinstance(j, int) or isinstance(j, bool) or not 0 <= j < count or j == i:
                raise AnatomyError(f"relation {key!r} of object {i}: {shown(j)} is not the index of another object.")
    return tuple(tuple(row) for row in rows)


def _relations(tables: Mapping[str, Table], objects: Sequence[SceneObject]) -> dict[str, Table]:
    """Ours: ``relations[name][i]`` lists what ``i`` is NAME of. "within" is left out: boxes can't tell its reading."""
    given = {name: tables[name] for name in DIRECTIONS if name in tables}
    if _reads_backwards(given, objects):
        given = {name: _turn(table) for name, table in given.items()}
    for name, table in given.items():
        back = given.get(_OPPOSITE[name])
        for i, row in enumerate(table):
            for j in row:
                if back is not None and i not in back[j]:
                    raise AnatomyError(
                        f"{_pair(objects, i, j)}: the first is {name} the second, but not the second "
                        f"{_OPPOSITE[name]} the first."
                    )
    for verb in VERBS:
        if verb in tables:
            given[_DONE[verb]] = _done_to(verb, tables[verb], objects)
    return given


def _reads_backwards(tables: Mapping[str, Table], objects: Sequence[SceneObject]) -> bool:
    """Whether ``left[i]`` lists what is left of ``i``; raises AnatomyError where the boxes say both."""
    forwards = backwards = None
    for name, table in tables.items():
        axis, sign = _AXES[name]
        for i, row in enumerate(table):
            for j in row:
                offset = sign * (objects[i].center[axis] - objects[j].center[axis])
                if offset > 0:
                    forwards = (name, i, j)
                elif offset < 0:
                    backwards = (name, i, j)
                if forwards and backwards:
                    one, other = (f"{name} of {_pair(objects, i, j)}" for name, i, j in (forwards, backwards))
                    raise AnatomyError(f"relations contradict the boxes: {one} and {other} read in opposite ways.")
    return backwards is not None


def _done_to(verb: str, table: Table, objects: Sequence[SceneObject]) -> Table:
    """Per organ the instruments that act on it, whichever of the two the file lists."""
    found: list[list[int]] = [[] for _ in objects]
    for i, row in enumerate(table):
        for j in row:
            kinds = objects[i].kind, objects[j].kind
            if "instrument" not in kinds:
                raise AnatomyError(f"{_pair(objects, i, j)}: neither is an instrument, so none can {verb} the other.")
            organ, tool = (i, j) if kinds == ("anatomy", "instrument") else (j, i)
            found[organ].append(tool)
    return tuple(tuple(sorted(set(row))) for row in found)


def _turn(table: Table) -> Table:
    return tuple(tuple(i for i, row in enumerate(table) if j in row) for j in range(len(table)))


def _pair(objects: Sequence[SceneObject], i: int, j: int) -> str:
    return f"objects {i} ({objects[i].name}) and {j} ({objects[j].name})"
