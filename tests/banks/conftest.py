"""Real files of ``../shared`` with images stood in by generated ones, and a seeded mutator of files and rows."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pil

from anatomy_r1.banks import Bank
from anatomy_r1.core import AnatomyError, Question
from anatomy_r1.envs import score

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"


@pytest.fixture(scope="session")
def shared() -> Path:
    if not SHARED.is_dir():
        pytest.skip(f"{SHARED} is absent")
    return SHARED


def _stand_in(path: Path, size: tuple[int, int] = (40, 24)) -> None:
    """An image that is different for every path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(list(os.fsencode("/".join(path.parts[-3:]))))
    Pil.fromarray(rng.integers(0, 256, (size[1] // 4, size[0] // 4, 3), dtype=np.uint8)).resize(size).save(path)


@pytest.fixture(scope="session")
def stand_in() -> Callable[..., None]:
    return _stand_in


@pytest.fixture(scope="session")
def frames(shared, tmp_path_factory) -> Path:
    """Stand-ins of every CholecT45 frame that the shared files name."""
    root = tmp_path_factory.mktemp("frames")
    named = {"/CholecT45/data/VID01/000262.png", "/CholecT45/data/VID01/000000.png"}
    for file in (shared / "anatomy_r1").glob("*.json"):
        named |= {row["images"].strip() for row in json.loads(file.read_text())}
    for name in named:
        _stand_in(root / name.lstrip("/"))
    return root


@pytest.fixture(scope="session")
def medical_images(shared, tmp_path_factory) -> Path:
    """Stand-ins of every image that the OmniMedVQA rows name."""
    root = tmp_path_factory.mktemp("omnimedvqa")
    for file in (shared / "omnimedvqa").glob("*.json"):
        for name in {row["image"] for row in json.loads(file.read_text())}:
            _stand_in(root / name, (16, 16))
    return root


TOKENS = [
    b'"',
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b"null",
    b"true",
    b"1e999",
    b"\\ud800",
    b"\xff",
    b"\x00",
    b"\n",
    b"\r\n",
    b"../",
    b"/",
    b"|",
    b"<|image_pad|>",
    b"<answer>",
    b"\xef\xbb\xbf",
    b"\xe2\x80\xa8",
    b"-1",
    b"NaN",
    b"[" * 3000,
]


def mutate_bytes(data: bytes, rng: np.random.Generator) -> bytes:
    """Cut, overwrite and insert at random places; one in ten is only truncated."""
    if rng.random() < 0.1:
        return data[: rng.integers(len(data))]
    for _ in range(rng.integers(1, 4)):
        at = int(rng.integers(len(data) + 1))
        token = TOKENS[rng.integers(len(TOKENS))] if rng.random() < 0.7 else rng.bytes(1)
        data = data[:at] + token + data[at + int(rng.integers(0, 12)) :]
    return data


VALUES: list[Any] = [
    None,
    True,
    0,
    -1,
    1e300,
    "",
    "   ",
    [],
    {},
    [1],
    {"a": 1},
    "A",
    "Z",
    "<|image_pad|>",
    "<answer>A</answer>",
    "../x.png",
    "/etc/passwd",
    "\x00",
    "x" * 30_000,
    "liver\nB. gut",
    "é\u2028",
    ["liver", "liver"],
]


def mutate_row(row: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
    """Remove, replace, swap or spoil one or two fields of a JSON object."""
    row = dict(row)
    for _ in range(rng.integers(1, 3)):
        keys = list(row)
        if not keys:
            return row
        key = keys[rng.integers(len(keys))]
        what = rng.integers(5)
        if what == 0:
            del row[key]
        elif what == 1:
            row[key] = VALUES[rng.integers(len(VALUES))]
        elif what == 2:
            other = keys[rng.integers(len(keys))]
            row[key], row[other] = row.get(other), row.get(key)
        elif isinstance(row[key], str) and row[key]:
            at = int(rng.integers(len(row[key])))
            piece = ("", "\x00", "<|im_end|>", " ", "Z", ")", "\n")[rng.integers(7)]
            row[key] = row[key][:at] + piece + row[key][at + int(rng.integers(0, 3)) :]
        else:
            row[key] = [row[key]]
    return row


@pytest.fixture(scope="session")
def spoil_bytes() -> Callable[[bytes, np.random.Generator], bytes]:
    return mutate_bytes


@pytest.fixture(scope="session")
def spoil_row() -> Callable[[dict[str, Any], np.random.Generator], dict[str, Any]]:
    return mutate_row


@pytest.fixture(scope="session")
def survives() -> Callable[..., tuple[int, int]]:
    return _survives


def _survives(open_bank: Callable[[], Bank], originals: dict[str, Question], root: Path) -> tuple[int, int]:
    """Open a spoilt bank and read all of it; returns how many questions came through and how many rows were refused.

    A question that comes through is a sound one: graded by its own gold answer, its image inside the root. Where stem
    and options are those of an original question, so is the right answer.
    """
    try:
        bank = open_bank()
        questions = [bank.question(index) for index in range(len(bank))]
    except AnatomyError as error:
        assert len(str(error)) < 1500 and len(str(error).splitlines()) <= 2, error
        return 0, 1
    for question in questions:
        gold = f"<think>It is {question.letter}.</think><answer>{question.letter}</answer>"
        assert score(question, gold).total == 1.5
        frame = getattr(question.image, "frame", None)
        path = question.image if frame is None else frame.image
        assert path.resolve().is_relative_to(root.resolve())
        before = originals.get(question.id)
        if before is not None and (question.stem, question.options) == (before.stem, before.options):
            assert question.options[question.answer] == before.options[before.answer]
    return len(questions), len(bank.refused)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(11)
