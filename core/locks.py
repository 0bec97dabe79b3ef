"""One owner per folder: an advisory lock that a process holds until it ends, however it ends."""

import atexit
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from time import sleep
from typing import IO, Literal

from anatomy_r1.core.errors import AnatomyError
from anatomy_r1.core.files import make_folder

try:
    import fcntl
except ImportError:  # no POSIX locks: folders are not guarded there
    fcntl = None  # type: ignore[assignment]

LOCK = ".lock"
LOOKS = 5
"""Times that a lock is tried for: :func:`lock_state` holds it for an instant."""
Held = Literal["free", "held", "left"]
_held: dict[Path, IO[str]] = {}


@contextmanager
def claiming_folder(folder: Path) -> Iterator[None]:
    """Make and lock a folder to look into it; where the block fails, neither is left behind.

    Raises:
        AnatomyError: it can't be written, or another process has it.
    """
    made = not folder.exists()
    make_folder(folder)
    new = claim_folder(folder)
    try:
        yield
    except BaseException:
        if new:
            release_folder(folder)
        if made:
            with suppress(OSError):  # something was written to it
                folder.rmdir()
        raise


def claim_folder(folder: Path) -> bool:
    """Lock a folder that exists, until :func:`release_folder` or the end of the process.

    Returns:
        False where this process has it already.

    Raises:
        AnatomyError: another process has it, and which.
    """
    key, path = folder.resolve(), folder / LOCK
    if fcntl is None or (key in _held and _is(path, _held[key])):
        return False
    if key in _held:
        _held.pop(key).close()  # of a folder that is gone
    while True:
        try:
            file = path.open("a+", encoding="utf-8")
        except OSError as error:
            raise AnatomyError(f"{folder}: can't be written ({error.strerror or error}).") from None
        try:
            _lock(file)
        except BlockingIOError:
            file.seek(0)
            owner = " ".join(file.read(200).split()) or "another process"
            file.close()
            raise AnatomyError(
                f"{folder}: in use by {owner}; two processes would spoil each other's files.\n"
                "Wait until it has ended, or give another folder."
            ) from None
        except OSError:  # a file system without locks
            pass
        if _is(path, file):  # else whoever had it removed the file in between
            break
        file.close()
    try:
        file.truncate(0)
        owner = f"process {os.getpid()} on {socket.gethostname()}, since {datetime.now():%Y-%m-%d %H:%M:%S}\n"
        os.write(file.fileno(), owner.encode())  # unbuffered: what a full disk refuses is not tried again on closing
    except OSError as error:
        _remove(path, file)
        raise AnatomyError(f"{folder}: can't be written ({error.strerror or error}).") from None
    _held[key] = file
    return True


def lock_state(folder: Path) -> Held:
    """Whether a process has a folder, without claiming it: ``held``, ``free``, or ``left`` by one that was killed.

    Where there are no locks, a lock that is there counts as held.
    """
    path = folder / LOCK
    try:
        with path.open(encoding="utf-8") as file:
            if fcntl is None:
                return "held"
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return "left" if _is(path, file) else "free"
    except FileNotFoundError:
        return "free"
    except OSError:
        return "held"


def _lock(file: IO[str]) -> None:
    for last in (*[False] * (LOOKS - 1), True):
        try:
            return fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if last:
                raise
            sleep(0.01)


def release_folder(folder: Path) -> None:
    """Give up a lock of this process."""
    if (file := _held.pop(folder.resolve(), None)) is not None:
        _remove(folder / LOCK, file)


def _is(path: Path, file: IO[str]) -> bool:
    """Whether the path still leads to the open file."""
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except OSError:
        return False


def _remove(path: Path, file: IO[str]) -> None:
    if _is(path, file):
        path.unlink(missing_ok=True)
    file.close()


@atexit.register
def _release_all() -> None:
    owner = os.getpid()
    for folder, file in list(_held.items()):
        try:
            file.seek(0)
            if file.read().startswith(f"process {owner} "):  # a fork inherits what its parent holds
                _remove(folder / LOCK, file)
        except (OSError, ValueError):
            continue
