"""Writing files that are never seen half-written: readers find the old one or the new one."""

import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

from anatomy_r1.banks.errors import AnatomyError


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
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.writelines(chunks)
                if durable:
                    file.flush()
                    os.fsync(file.fileno())
            Path(name).chmod(0o644)  # mkstemp's files are private
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise AnatomyError(f"{path}: can't be written ({error.strerror or error}).") from None
