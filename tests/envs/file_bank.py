"""A bank of five questions about one file."""

from pathlib import Path

from anatomy_r1.banks import Bank
from anatomy_r1.core import AnatomyError, Question


class FileBank:
    name = "files"
    splits: tuple[str, ...] = ()
    structures: tuple[str, ...] = ("aa", "bb")

    def __init__(self, path: Path) -> None:
        self.path = path

    def __len__(self) -> int:
        return 5

    def question(self, index: int) -> Question:
        return Question(f"f{index}", self.path, f"Number {index}?", ("aa", "bb"), 0, "aa", "t", "m", "g", "files")

    def index_of(self, question_id: str) -> int:
        return int(question_id[1:])

    def split(self, name: str) -> Bank:
        raise AnatomyError(name)
