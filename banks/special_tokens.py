"""A bank's texts against the special tokens of the model that is about to read them."""

from collections.abc import Iterable, Iterator

import numpy as np

from anatomy_r1.banks.bank import Bank, Readable
from anatomy_r1.core import AnatomyError, SpecialTokens

LIMIT = 2000
"""Questions of a bank that are made or read for it; what lies in memory is looked through whole."""


def refuse_special_tokens(bank: Bank, tokens: Iterable[str], *, limit: int = LIMIT) -> None:
    """Look through a bank's questions for special tokens of a tokenizer, before a run starts.

    Args:
        bank: rows in memory are looked through whole; of others, all structures and ``limit`` questions, evenly spread.
        tokens: of the tokenizer: ``tokenizer.all_special_tokens`` and its added ones.
        limit: see ``bank``.

    Raises:
        AnatomyError: a stem, option or structure holds one; the message names question and token.
    """
    special = SpecialTokens(tokens)
    for name, texts in _texts(bank, limit):
        if (found := special.find(*texts)) is not None:
            raise AnatomyError(f"{name}: the text holds {found!r}, a special token of this model; remove it.")


def _texts(bank: Bank, limit: int) -> Iterator[tuple[str, tuple[str, ...]]]:
    yield f"bank {bank.name!r}, structures", tuple(bank.structures)
    if isinstance(bank, Readable):
        yield from bank.texts()
        return
    for index in np.unique(np.linspace(0, len(bank) - 1, min(limit, len(bank))).astype(int)).tolist():
        question = bank.question(index)
        yield f"question {question.id!r}", (question.stem, *question.options, *question.distractors)
