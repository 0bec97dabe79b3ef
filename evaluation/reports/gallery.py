"""Questions to look at: what was asked and what was answered, as data that the report's page draws, filters and pages.

A report stays a file that can be sent around: pictures are made small, and texts are cut so that all of it fits.
"""

import base64
import io
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from PIL import Image as Pil

from anatomy_r1.core import AnatomyError, read_bytes
from anatomy_r1.envs import read_blocks
from anatomy_r1.evaluation.records import Rollout

TEXT_BUDGET = 10_000_000
"""Characters of responses in a report, in all."""
IMAGE_BUDGET = 9_000_000
"""Bytes of pictures in a report, in all, before they are written as text."""
LONGEST, SHORTEST = 4000, 160
"""Bounds of the characters that are shown of a response."""
RESPONSES = 8
"""Responses to a question that are shown, per side."""
EDGES = {60: 640, 150: 448, 300: 320}
"""Longest edge of pictures in pixels, where there are at most so many; of more pictures: …"""
SMALL = 200
MAX_PNG = 1 << 26

Sides = Mapping[str, Iterable[Rollout]]
_PAIR = {(False, True): "won", (True, False): "lost", (True, True): "kept", (False, False): "missed"}


def gallery_data(folders: Mapping[str, Path], sides: Mapping[str, Sequence[Rollout]]) -> dict[str, Any]:
    """What the page needs to show the questions that all sides answered.

    Args:
        folders: evaluation folder of each side, for the pictures.
        sides: rollouts of each side, those of one question adjacent.

    Returns:
        ``items``: per question ``stem, options, answer`` (index)``, structure, type, modality, similarity, outcome,
        image`` (index or None) and ``said``: per response ``side, think, answer, correct, reward, parts, problem``;
        ``images``: data URIs.
    """
    found = {side: {key: list(some) for key, some in groupby(rollouts, _question)} for side, rollouts in sides.items()}
    first = next(iter(found))
    shared = [key for key in found[first] if all(key in other for other in found.values())]
    shown = sum(min(len(side[key]), RESPONSES) for side in found.values() for key in shared)
    longest = max(SHORTEST, min(LONGEST, TEXT_BUDGET // max(shown, 1)))
    pictured = sum(any(side[key][0].image for side in found.values()) for key in shared)
    images = Images(folders, next((edge for most, edge in EDGES.items() if pictured <= most), SMALL))
    items = [_item({side: answers[key] for side, answers in found.items()}, images, longest) for key in shared]
    return {"items": items, "images": images.uris}


class Images:
    """Pictures of the sides' folders, made small, as long as there is room for them."""

    def __init__(self, folders: Mapping[str, Path], edge: int) -> None:
        self.uris: list[str] = []
        self._folders, self._edge, self._left = folders, edge, IMAGE_BUDGET

    def add(self, names: Mapping[str, str | None]) -> int | None:
        """Number of the picture, of the first side that kept one; None where there is none, or no room."""
        side = next((side for side, name in names.items() if name is not None), None)
        if side is None or self._left <= 0:
            return None
        folder, name = self._folders[side], str(names[side])
        data = _small(saved_image(folder, name), self._edge, folder / name)
        self._left -= len(data)
        self.uris.append("data:image/webp;base64," + base64.b64encode(data).decode())
        return len(self.uris) - 1


def saved_image(folder: Path, name: str) -> bytes:
    """A PNG that a run saved.

    Raises:
        AnatomyError: it lies outside the folder, is no PNG, or can't be read.
    """
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()) or path.suffix != ".png":
        raise AnatomyError(f"{folder}: a saved image must be a PNG inside the folder, got {name!r}.")
    return read_bytes(path, MAX_PNG)


def response_data(
    side: str, text: str, correct: bool, reward: float, parts: Mapping[str, float], problem: str | None, longest: int
) -> dict[str, Any]:
    """A response, thought and answer told apart where it has the form."""
    blocks = read_blocks(text)
    think, answer = (None, text) if blocks is None else (_cut(blocks[0].strip(), longest), blocks[1])
    return {
        "side": side,
        "think": think,
        "answer": _cut(answer.strip(), longest),
        "correct": correct,
        "reward": round(reward, 3),
        "parts": {name: round(value, 3) for name, value in parts.items()},
        "problem": problem,
    }


def problem_of(failed: str | None, formed: bool, truncated: bool) -> str | None:
    """Why a response is no answer, in words; None where it is one."""
    if failed is not None:
        return f"no response: {failed}"
    if formed:
        return None
    return "cut off at the token limit" if truncated else "not in the required form"


def _question(rollout: Rollout) -> str:
    return rollout.question_id


def _item(sides: Mapping[str, Sequence[Rollout]], images: Images, longest: int) -> dict[str, Any]:
    first = next(iter(sides.values()))[0]
    return {
        "id": first.question_id,
        "stem": first.stem,
        "options": first.options,
        "answer": ord(first.answer) - ord("A"),
        "structure": first.structure,
        "type": first.question_type,
        "modality": first.modality,
        "similarity": first.similarity,
        "outcome": _outcome([answers[0] for answers in sides.values()]),
        "image": images.add({side: answers[0].image for side, answers in sides.items()}),
        "blind": first.baselines.get("blind"),
        "tally": {side: [sum(one.correct for one in answers), len(answers)] for side, answers in sides.items()},
        "said": [
            _said(side if len(sides) > 1 else "", rollout, longest)
            for side, answers in sides.items()
            for rollout in answers[:RESPONSES]
        ],
    }


def _said(side: str, rollout: Rollout, longest: int) -> dict[str, Any]:
    problem = problem_of(rollout.failed, rollout.format, rollout.truncated)
    order = {"order": rollout.options} if rollout.permutation else {}
    return order | response_data(side, rollout.text, rollout.correct, rollout.reward, rollout.parts, problem, longest)


def _outcome(firsts: Sequence[Rollout]) -> str:
    if len(firsts) == 2:
        return _PAIR[firsts[0].correct, firsts[1].correct]
    if len(firsts) > 2:
        right = {one.correct for one in firsts}
        return "split" if len(right) > 1 else "kept" if right == {True} else "missed"
    return firsts[0].outcome


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[:longest]} … ({len(text) - longest:,} more characters)"


def _small(data: bytes, edge: int, path: Path) -> bytes:
    try:
        with Pil.open(io.BytesIO(data), formats=("PNG",)) as image:
            small = image.convert("RGB")
    except Exception as error:  # decoders raise whatever they stumble over
        raise AnatomyError(f"{path}: saved image is broken ({error}); copy the evaluation anew.") from None
    small.thumbnail((edge, edge))
    buffer = io.BytesIO()
    small.save(buffer, "WEBP", quality=85)
    return buffer.getvalue()
