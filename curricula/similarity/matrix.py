"""How alike structures are: a symmetric matrix over named structures, unit diagonal, values in [0, 1]; and its CSV."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from anatomy_r1.core import SMALL, AnatomyError, Floats, normalise, read_text, write_bytes

Indices = NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Similarity:
    """A similarity matrix over named structures.

    Raises:
        AnatomyError: names repeat (after :func:`normalise`), or the values are not a (K, K) symmetric matrix in
            [0, 1] with unit diagonal.
    """

    names: tuple[str, ...]
    values: Floats
    """(K, K), read-only."""

    def __post_init__(self) -> None:
        values = np.array(self.values, dtype=np.float64)
        size = len(self.names)
        if values.shape != (size, size):
            raise AnatomyError(f"similarity of {size} structures must be {size}×{size}, got {values.shape}.")
        if len(self.rows) < size:
            raise AnatomyError(f"similarity names a structure twice: {_repeated(self.names)}.")
        if bad := _first(~((values >= 0) & (values <= 1))):
            raise AnatomyError(f"similarity must lie in [0, 1], got {values[bad]} for {self._pair(bad)}.")
        if bad := _first(abs(values - values.T) > 1e-6):
            raise AnatomyError(
                f"similarity must be symmetric, got {values[bad]} and {values.T[bad]} for {self._pair(bad)}."
            )
        if bad := _first(np.diag(abs(np.diag(values) - 1) > 1e-6)):
            raise AnatomyError(f"similarity of {self.names[bad[0]]!r} to itself must be 1, got {values[bad]}.")
        values.setflags(write=False)
        object.__setattr__(self, "values", values)

    @cached_property
    def rows(self) -> dict[str, int]:
        """Row of each structure, by its normalised name."""
        return {normalise(name): row for row, name in enumerate(self.names)}

    def row(self, name: str) -> int | None:
        """Row of a structure, however it is spelt; None where the matrix lacks it."""
        return self.rows.get(normalise(name))

    def restricted(self, structures: Sequence[str]) -> "Similarity":
        """The part for ``structures``, in their order.

        Raises:
            AnatomyError: the matrix lacks some of them; all are listed.
        """
        rows = [self.row(name) for name in structures]
        if missing := [name for name, row in zip(structures, rows, strict=True) if row is None]:
            raise AnatomyError(f"the similarity matrix lacks {len(missing)} of the bank's structures: {missing}.")
        return Similarity(tuple(structures), self.values[np.ix_(rows, rows)])  # type: ignore[arg-type]

    def save(self, path: Path) -> None:
        """Write the matrix as CSV: a header of names, then per structure its name and its row."""
        text = io.StringIO(newline="")
        writer = csv.writer(text)
        writer.writerow(["", *self.names])
        for name, row in zip(self.names, self.values.tolist(), strict=True):
            writer.writerow([name, *row])
        write_bytes(path, text.getvalue().encode())

    def _pair(self, at: tuple[int, int]) -> str:
        return f"{self.names[at[0]]!r} and {self.names[at[1]]!r}"


def read_similarity(path: Path) -> Similarity:
    """Read a matrix that :meth:`Similarity.save` or a spreadsheet wrote.

    Raises:
        AnatomyError: no such file, or not a square table of numbers whose rows are named as its columns.
    """
    header, rows = _read_csv(path)
    names = tuple(name.strip() for name in header[1:])
    values = np.empty((len(rows), len(names)))
    for number, row in enumerate(rows):
        expected = names[number] if number < len(names) else None
        if row[0].strip() != expected or len(row) != len(header):
            raise AnatomyError(
                f"{path}: row {number + 2} must be {expected!r} and {len(names)} numbers, as the header says; "
                f"got {row[0]!r} and {len(row) - 1}."
            )
        values[number] = [_number(cell, f"{path}: row {number + 2} ({row[0]})") for cell in row[1:]]
    try:
        return Similarity(names, values)
    except AnatomyError as error:
        raise AnatomyError(f"{path}: {error}") from None


def read_vectors(path: Path) -> dict[str, Floats]:
    """Read vectors of structures from CSV: a header, then per structure its name and as many numbers.

    Raises:
        AnatomyError: no such file, a structure twice, or rows of other lengths than the header.
    """
    header, rows = _read_csv(path)
    vectors: dict[str, Floats] = {}
    for number, row in enumerate(rows, start=2):
        where = f"{path}: row {number} ({row[0]})"
        if len(row) != len(header) or len(row) < 2:
            raise AnatomyError(f"{where}: expected {len(header) - 1} numbers, as the header says; got {len(row) - 1}.")
        if (name := normalise(row[0])) in vectors:
            raise AnatomyError(f"{where}: this structure has a row already.")
        vectors[name] = np.array([_number(cell, where) for cell in row[1:]])
    return vectors


def _read_csv(path: Path) -> tuple[list[str], list[list[str]]]:
    try:
        text = io.StringIO(read_text(path, SMALL), newline="")
        header, *rows = (row for row in csv.reader(text) if row)
    except (AnatomyError, csv.Error, ValueError) as error:
        raise AnatomyError(f"{path}: expected a CSV file with a header of structure names ({error}).") from None
    return header, rows


def _number(cell: str, where: str) -> float:
    try:
        return float(cell)
    except ValueError:
        raise AnatomyError(f"{where}: expected a number, got {cell!r}.") from None


def _first(mask: NDArray[np.bool_]) -> tuple[int, int] | None:
    rows, columns = np.nonzero(mask)
    return (int(rows[0]), int(columns[0])) if len(rows) else None


def _repeated(names: Sequence[str]) -> list[str]:
    keys = [normalise(name) for name in names]
    return sorted({name for name, key in zip(names, keys, strict=True) if keys.count(key) > 1})
