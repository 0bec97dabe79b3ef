"""A folder of image files that nothing leads out of: neither ``..`` nor a link, but where the user lets links lead."""

import os
from pathlib import Path
from reprlib import repr as shown
from unicodedata import normalize

from anatomy_r1.core.errors import AnatomyError


def inside(root: Path, path: Path) -> bool:
    """Whether a path, links followed, lies inside ``root``."""
    try:
        return path.resolve().is_relative_to(root.resolve())
    except (OSError, RuntimeError, ValueError):  # a loop of links, a NUL
        return False


class Grounds:
    """Where files may truly lie: below a root, and where links may lead besides.

    Args:
        root: the folder that paths are relative to.
        follow_links: one more folder, such as the disk that large data are kept on; None: links must stay inside.

    Raises:
        AnatomyError: ``follow_links`` is no folder.
    """

    def __init__(self, root: Path, follow_links: str | Path | None = None) -> None:
        self.root = root
        self._allowed = [root]
        if follow_links is not None:
            if not Path(follow_links).is_dir():
                raise AnatomyError(
                    f"follow_links: expected the folder that links lead into, got {str(follow_links)!r}."
                )
            self._allowed.append(Path(follow_links))

    def hold(self, path: Path) -> bool:
        """Whether a path, links followed, lies where it may."""
        return any(inside(root, path) for root in self._allowed)

    def refusal(self, path: Path) -> str:
        """Why a path is not taken, and the option that would help where a link is to blame."""
        why = f"must lie inside {self.root}, but leads out of it"
        try:
            linked = any(part.is_symlink() for part in (path, *path.parents))
            return f"{why}; if that is meant, say follow_links={str(path.resolve().parent)[:300]!r}" if linked else why
        except (OSError, RuntimeError, ValueError):
            return why


class ImageFolder:
    """Image files below a root, by relative path; every folder is listed once, as asking for each file is slow.

    Paths may be written as on Windows, with ``./`` or ``//``, and with accents composed or not.

    Args:
        root: nothing outside it is ever found, neither by ``..`` nor through a link.
        follow_links: a folder outside that links may lead into; None: none.
        required: whether :meth:`check` asks for the file; off for what looks at texts alone.
    """

    def __init__(self, root: Path, *, follow_links: str | Path | None = None, required: bool = True) -> None:
        self.root, self.required = root, required
        self._grounds = Grounds(root, follow_links)
        self._names: dict[str, frozenset[str] | str] = {}

    def check(self, relative: str) -> None:
        """Raise AnatomyError where a file is required and there is none inside the root."""
        head, _, tail = relative.rpartition("/")
        names = self._names.get(head)
        if type(names) is frozenset and tail in names:
            return
        if self.required:
            self._find(relative)

    def has(self, relative: str) -> bool:
        """Whether there is such a file, required or not."""
        try:
            return bool(self._find(relative))
        except AnatomyError:
            return False

    def source(self, relative: str) -> Path:
        """Path of a file that was checked."""
        head, _, tail = relative.rpartition("/")
        names = self._names.get(head)
        if (type(names) is frozenset and tail in names) or not self.required:
            return self.root / relative
        return self.root / self._find(relative)

    def _find(self, relative: str) -> str:
        """The file's path as it is spelt on disk."""
        reason = ""
        for spelling in spellings(relative):
            head, _, tail = spelling.rpartition("/")
            names = self._names.get(head)
            if names is None:
                names = self._names[head] = self._list(head)
            if isinstance(names, str):
                reason = reason or names
            elif tail in names:
                return spelling
        if not reason:
            path = self.root / relative
            reason = f"no such file inside {self.root}"
            if os.path.lexists(path) and not self._grounds.hold(path):
                reason = self._grounds.refusal(path)
        raise AnatomyError(f"image {shown(relative)}: {reason}.")

    def _list(self, head: str) -> frozenset[str] | str:
        """Names of the regular files in a folder, or why there are none."""
        parts = head.split("/")
        if head.startswith("/") or "\\" in head or ".." in parts or (head and "" in parts):
            return "expected a plain path relative to the images' root"
        folder = self.root / head
        if not self._grounds.hold(folder):
            return self._grounds.refusal(folder)
        try:
            with os.scandir(folder) as entries:
                return frozenset(entry.name for entry in entries if self._is_ours(entry))
        except (OSError, ValueError) as error:
            return f"folder {shown(str(folder))} can't be listed ({getattr(error, 'strerror', None) or error})"

    def _is_ours(self, entry: os.DirEntry[str]) -> bool:
        return entry.is_file() and (not entry.is_symlink() or self._grounds.hold(Path(entry.path)))


def spellings(relative: str) -> list[str]:
    """A path as it is written, and as it may be spelt on this disk: written on Windows, or with other accents."""
    absolute = relative.startswith(("/", "\\"))
    parts = [part for part in relative.replace("\\", "/").split("/") if part not in ("", ".")]
    plain = relative if absolute else "/".join(parts)
    return list(dict.fromkeys((relative, plain, normalize("NFC", plain), normalize("NFD", plain))))
