"""The card of an exported data set: licence, sources, splits, and how far one gets on it without its images."""

from collections import Counter
from collections.abc import Mapping, Sequence

from anatomy_r1.banks import Bank
from anatomy_r1.core import AnatomyError, Question
from anatomy_r1.evaluation.audits.shortcut_audit import Audit, audit
from anatomy_r1.evaluation.audits.shortcuts import RULES
from anatomy_r1.evaluation.stats import share, share_range

LICENCES = {"scenes": "mit", "scenes-ssg": "mit"}
"""Of the banks whose images are made here; those of all others are their owners'."""
UNKNOWN = "unknown"
MOST = 2000
"""Questions that are looked at for shortcuts."""


class ListedBank:
    """Questions as a bank without splits, for :func:`audit`."""

    splits: tuple[str, ...] = ()

    def __init__(self, name: str, questions: Sequence[Question]) -> None:
        self.name, self._questions = name, questions

    @property
    def structures(self) -> tuple[str, ...]:
        """All right answers."""
        return tuple(sorted({question.structure for question in self._questions}))

    def __len__(self) -> int:
        return len(self._questions)

    def question(self, index: int) -> Question:
        """The question at ``index``."""
        return self._questions[index]

    def index_of(self, question_id: str) -> int:
        """Index of a question id; raises AnatomyError where there is none."""
        for index, question in enumerate(self._questions):
            if question.id == question_id:
                return index
        raise AnatomyError(f"{self.name}: no question {question_id!r}.")

    def split(self, name: str) -> Bank:
        """Refused: there are no splits."""
        raise AnatomyError(f"{self.name}: no split {name!r}.")


def dataset_card(name: str, splits: Mapping[str, Sequence[Question]], licence: str | None = None) -> str:
    """A data set card in Markdown, with the metadata that Hugging Face reads at its head.

    Args:
        name: of the bank.
        splits: the questions that were exported, by split.
        licence: an identifier of Hugging Face's (``cc-by-4.0``); None: that of an embedded bank, else ``unknown``.
    """
    questions = [question for some in splits.values() for question in some]
    found = audit(ListedBank(name, questions), limit=MOST)
    licence = licence or LICENCES.get(name, UNKNOWN)
    sources = Counter(question.source or "not said" for question in questions).most_common(20)
    head = ["---", f"license: {licence}", "task_categories:", "- visual-question-answering", "language:", "- en"]
    body = [
        f"# {name}: {len(questions):,} multiple-choice questions of anatomy",
        "Columns: `image`, `id`, `stem`, `options`, `answer` (index of the right one), `structure`, `question_type`, "
        "`modality`, `group_key` (what a split must not cut through), `source`. Opens with `datasets.load_from_disk`, "
        "and in anatomy-r1 as the bank `hf:FOLDER`.",
        "## Licence",
        _licence(licence),
        "## Splits",
        *_table(("split", "questions", "groups"), [_split(*pair) for pair in splits.items()]),
        "## Sources",
        *_table(("bank and file or split", "questions"), [(name, f"{count:,}") for name, count in sources]),
        "## Without the image",
        *_blind(found),
    ]
    return "\n".join([*head, "---", "", *_spaced(body), ""])


def _licence(licence: str) -> str:
    if licence == UNKNOWN:
        return "Not stated. Images and questions stay under their owners' terms: ask them before you publish this."
    return f"`{licence}`."


def _split(name: str, questions: Sequence[Question]) -> tuple[str, ...]:
    return name, f"{len(questions):,}", f"{len({question.group_key for question in questions}):,}"


def _blind(found: Audit) -> list[str]:
    rows = [("chance", share(found.chance.value), "")]
    for rule in RULES:
        if rule.name in found.rules:
            rows.append((rule.label, share(found.rules[rule.name].value), share_range(found.rules[rule.name])))
    letters = ", ".join(f"{letter} {count:,}" for letter, count in found.letters.items())
    few = [f"Too few groups to say more: {found.too_few}."] if found.too_few else []
    told = f"Accuracy of whoever does not look, on {found.n:,} of the questions (cross-fitted by group):"
    return [told, *_table(("rule", "accuracy", "95 %"), rows), *few, f"Right letters: {letters}."]


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [header, ["---"] * len(header), *rows]
    return ["\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines)]


def _spaced(parts: Sequence[str]) -> list[str]:
    """Paragraphs with an empty line between them."""
    return [line for part in parts for line in (part, "")][:-1]
