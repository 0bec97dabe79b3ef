"""Banks whose questions are made, not stored: question ``i`` is a pure function of (seed, split, i)."""

from anatomy_r1.core import AnatomyError, Question

SPLITS = ("train", "validation", "test")


class MadeBank:
    """Numbers questions, and gives them ids such as ``scenes/test/0/123``.

    Subclasses set ``name``, ``seed`` and ``part``, know their length, and ``_make`` a question.
    """

    name: str
    seed: int
    part: str
    """Name of the split."""

    def __len__(self) -> int:
        raise NotImplementedError

    def index_of(self, question_id: str) -> int:
        """Index of an id.

        Raises:
            AnatomyError: it is of another bank, split or seed.
        """
        head, _, tail = question_id.rpartition("/")
        if head != self._prefix or not (tail.isascii() and tail.isdigit()) or int(tail) >= len(self):
            raise AnatomyError(f"no question {question_id!r} here; ids read {self._prefix}/0 to {len(self) - 1}.")
        return int(tail)

    def question(self, index: int) -> Question:
        """Make question ``index``; its image is read or drawn when asked for.

        Raises:
            IndexError: there is no such number.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"{self._prefix} has questions 0 to {len(self) - 1}, not {index}")
        return self._make(index, f"{self._prefix}/{index}")

    @property
    def _prefix(self) -> str:
        return f"{self.name}/{self.part}/{self.seed}"

    def _make(self, index: int, name: str) -> Question:
        raise NotImplementedError
