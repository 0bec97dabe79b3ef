"""Files of others, read with care, and files of ours, never seen half-written.

What is read may be broken: text that is no UTF-8, JSON with a name twice or an infinite number, JSONL torn by a kill.
It may be no file at all: a pipe waits for ever, a device never ends. Everything is opened by :func:`open_regular`.
What is written appears whole or not at all: readers find the old file or the new one, the old folder or the new one.
"""

import json
import os
import shutil
import stat
import tempfile
import weakref
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from io import BufferedReader
from math import isfinite
from pathlib import Path
from reprlib import repr as shown
from typing import Any, BinaryIO

from anatomy_r1.core.errors import AnatomyError

MAX_BYTES = 1 << 29
"""Largest file that is read whole."""
SMALL = 1 << 24
"""Largest table, taxonomy or config."""
MAX_LINE = 1 << 26
"""Longest line of a log."""
_KINDS = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}


def open_regular(path: Path, max_bytes: int | None = None) -> BufferedReader:
    """Open a regular file for reading; no pipe is waited for, and no device is read.

    Raises:
        AnatomyError: missing, unreadable, no regular file, or larger than ``max_bytes``.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise AnatomyError(f"{path}: can't be read ({_reason(error)}).") from None
    found = os.fstat(descriptor)
    problem = ""
    if not stat.S_ISREG(found.st_mode):
        problem = f"can't be read (expected a file, it is {_KINDS.get(stat.S_IFMT(found.st_mode), 'a device')})"
    elif max_bytes is not None and found.st_size > max_bytes:
        problem = f"{found.st_size:,} bytes, expected at most {max_bytes:,}"
    if problem:
        os.close(descriptor)
        raise AnatomyError(f"{path}: {problem}.")
    return os.fdopen(descriptor, "rb")


def read_text(path: Path, max_bytes: int = MAX_BYTES) -> str:
    """Text of a UTF-8 file, with or without a byte-order mark.

    Raises:
        AnatomyError: what :func:`open_regular` refuses, or not UTF-8.
    """
    try:
        return read_bytes(path, max_bytes).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise AnatomyError(f"{path}: not UTF-8 (byte {error.start + 1}); convert it.") from None


def read_bytes(path: Path, max_bytes: int = MAX_BYTES) -> bytes:
    """Content of a file.

    Raises:
        AnatomyError: what :func:`open_regular` refuses.
    """
    with open_regular(path, max_bytes) as file:
        try:
            return file.read(max_bytes)
        except OSError as error:
            raise AnatomyError(f"{path}: can't be read ({_reason(error)}).") from None


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)


def read_json(path: Path, max_bytes: int = MAX_BYTES) -> Any:
    """Value of a JSON file.

    Raises:
        AnatomyError: what :func:`read_text` refuses, broken JSON, a name twice in one object, or an infinite number.
    """
    return parse_json(read_text(path, max_bytes), str(path))


def parse_json(text: str, where: str) -> Any:
    """Value of a JSON text; ``where`` begins the message of the AnatomyError for a broken one."""
    try:
        return json.loads(text, object_pairs_hook=_object, parse_float=_finite, parse_constant=_finite)
    except RecursionError:
        raise AnatomyError(f"{where}: JSON is nested too deeply.") from None
    except ValueError as error:
        raise AnatomyError(f"{where}: broken JSON: {error}.") from None


def read_rows(path: Path) -> list[Any]:
    """Value of a JSON file that must be a list."""
    rows = read_json(path)
    if not isinstance(rows, list):
        raise AnatomyError(f"{path}: expected a JSON list of questions, got {shown(rows)}.")
    return rows


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name occurs twice in one object")
    return found


def _finite(number: str) -> float:
    if not isfinite(value := float(number)):
        raise ValueError(f"{number} is no finite number")
    return value


def read_jsonl(path: Path) -> Iterator[dict[str, Any]]:
    """Rows of a JSONL file; a last line torn by a kill is left out.

    Raises:
        AnatomyError: no such file, or a line before the last that is not a JSON object.
    """
    if not path.exists():
        raise AnatomyError(f"{path}: file not found.")
    with open_regular(path) as lines:
        bad = number = 0
        left = os.fstat(lines.fileno()).st_size  # a file that grows is read to where it ended when it was opened
        while left > 0 and (line := lines.readline(min(left, MAX_LINE))):
            number, left = number + 1, left - len(line)
            if bad:
                raise AnatomyError(f"{path}, line {bad}: expected a JSON object; repair or remove the line.")
            try:
                row = json.loads(line.decode("utf-8", "replace"))
            except (ValueError, RecursionError):
                row = None
            if isinstance(row, dict):
                yield row
            else:
                bad = number


def make_folder(path: Path) -> None:
    """Make a folder to write to, and those above it; one that is there is fine.

    Raises:
        AnatomyError: a file stands in the way, or it is not allowed.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        problem = None if os.access(path, os.W_OK | os.X_OK) else "not writable"
    except OSError as error:
        problem = "a file is in the way" if isinstance(error, FileExistsError | NotADirectoryError) else error.strerror
    except ValueError as error:  # a NUL in the path
        problem = str(error)
    if problem is not None:
        raise AnatomyError(f"{path}: can't be used as a folder to write to ({problem}).\nChoose another one (--out).")


def temporary_folder(owner: object) -> Path:
    """A new folder that is removed with its owner, or at the end of the process; only a kill leaves it behind."""
    folder = Path(tempfile.mkdtemp(prefix="anatomy-r1-"))
    weakref.finalize(owner, shutil.rmtree, folder, ignore_errors=True)
    return folder


def write_json(path: Path, value: Any) -> None:
    """Write a value as indented JSON, atomically; NaN is refused."""
    write_bytes(path, (json.dumps(value, indent=2, allow_nan=False) + "\n").encode())


def write_bytes(path: Path, data: bytes, *, durable: bool = True) -> None:
    """Write a file atomically; see :func:`write_chunks`."""
    write_chunks(path, (data,), durable=durable)


def write_chunks(path: Path, chunks: Iterable[bytes], *, durable: bool = True) -> None:
    """Write a file atomically, piece by piece.

    Args:
        path: the file; its folder is made where there is none.
        chunks: what to write.
        durable: wait until it has reached the disk, so that not even a power cut loses it.

    Raises:
        AnatomyError: the folder can't be written, or the disk is full.
    """
    try:
        with replacing(path) as file:
            file.writelines(chunks)
            if durable:
                file.flush()
                os.fsync(file.fileno())
    except OSError as error:
        raise AnatomyError(f"{path}: can't be written ({error.strerror or error}).") from None


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A new file to write to, which takes the place of ``path`` when the block ends, and goes where it fails.

    Raises:
        OSError: it can't be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".partial")
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
        Path(name).chmod(0o644)  # mkstemp's files are private
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def append_json(path: Path, value: Any) -> None:
    """Append a value to a JSONL file, as a whole line or not at all; NaN is refused.

    Raises:
        AnatomyError: the file can't be written, or the disk is full.
    """
    rest = memoryview((json.dumps(value, allow_nan=False) + "\n").encode())
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab", buffering=0) as file:
            end = file.seek(0, os.SEEK_END)
            try:
                while rest:
                    rest = rest[file.write(rest) :]
            except OSError:
                file.truncate(end)
                raise
    except OSError as error:
        raise AnatomyError(f"{path}: can't be written ({_reason(error)}).") from None


@contextmanager
def writing_folder(path: Path) -> Iterator[Path]:
    """A new folder to write to, which takes the place of ``path`` once whole; where the block fails, nothing changes.

    What a kill in between leaves, :func:`sweep` mends.

    Raises:
        AnatomyError: it can't be written, or the disk is full.
    """
    partial, old = (path.with_name(f".{path.name}.{state}") for state in ("partial", "old"))
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        yield partial
        shutil.rmtree(old, ignore_errors=True)
        if path.exists():
            path.rename(old)
        partial.rename(path)
    except OSError as error:
        raise AnatomyError(f"{path}: can't be written ({_reason(error)}).") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    shutil.rmtree(old, ignore_errors=True)


def sweep(folder: Path) -> None:
    """Clear what a kill left of files and folders half-written, and put back what was about to be replaced."""
    for litter in folder.rglob(".*.partial"):
        shutil.rmtree(litter) if litter.is_dir() else litter.unlink()
    for old in folder.rglob(".*.old"):
        current = old.with_name(old.name[1 : -len(".old")])
        shutil.rmtree(old) if current.exists() else old.rename(current)
