"""A folder of image files that nothing leads out of: neither ``..`` nor a link."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from reprlib import repr as shown

from anatomy_r1.core.errors import AnatomyError


def inside(root: Path, path: Path) -> bool:
    """Whether a path, links followed, lies inside ``root``."""
    try:
        return path.resolve().is_relative_to(root.resolve())
    except (OSError, RuntimeError, ValueError):  # a loop of links, a NUL
        return False


_ABSENT_ALLOWED = ContextVar("absent images allowed", default=False)


@contextmanager
def images_may_be_absent() -> Iterator[None]:
    """While the block runs, banks open without their images: for what looks at texts alone."""
    token = _ABSENT_ALLOWED.set(True)
    try:
        yield
    finally:
        _ABSENT_ALLOWED.reset(token)


def absent_allowed() -> bool:
    """Whether :func:`images_may_be_absent` is in force."""
    return _ABSENT_ALLOWED.get()


class ImageFolder:
    """Image files below a root, by relative path; every folder is listed once, as asking for each file is slow.

    Args:
        root: nothing outside it is ever found, neither by ``..`` nor through a link.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._names: dict[str, frozenset[str] | str] = {}

    def check(self, relative: str) -> None:
        """Raise AnatomyError where there is no such file inside the root (see :func:`images_may_be_absent`)."""
        head, _, tail = relative.rpartition("/")
        names = self._names.get(head)
        if type(names) is frozenset and tail in names:
            return
        if absent_allowed():
            return
        if names is None:
            names = self._names[head] = self._list(head)
        if isinstance(names, str):
            raise AnatomyError(f"image {shown(relative)}: {names}.")
        if tail not in names:
            raise AnatomyError(f"image {shown(relative)}: no such file inside {self.root}.")

    def source(self, relative: str) -> Path:
        """Path of a file that was checked."""
        return self.root / relative

    def _list(self, head: str) -> frozenset[str] | str:
        """Names of the regular files in a folder, or why there are none."""
        parts = head.split("/")
        if head.startswith("/") or "\\" in head or ".." in parts or (head and "" in parts):
            return "expected a plain path relative to the images' root"
        folder = self.root / head
        if not inside(self.root, folder):
            return f"must lie inside {self.root}, but leads out of it"
        try:
            with os.scandir(folder) as entries:
                return frozenset(entry.name for entry in entries if self._is_ours(entry))
        except (OSError, ValueError) as error:
            return f"folder {shown(str(folder))} can't be listed ({getattr(error, 'strerror', None) or error})"

    def _is_ours(self, entry: os.DirEntry[str]) -> bool:
        return entry.is_file() and (not entry.is_symlink() or inside(self.root, Path(entry.path)))
