"""How various a group is: in the structures it answers, in its texts, and over permutations of its options."""

import math
from collections import Counter
from collections.abc import Hashable, Sequence
from itertools import chain

from anatomy_r1.core import AnatomyError, normalise


def answer_entropy(chosen: Sequence[str | None]) -> float:
    """Entropy in bits of the options that a group's responses chose; unreadable ones (None) count as one choice."""
    counts = Counter(None if text is None else normalise(text) for text in chosen)
    shares = [count / len(chosen) for count in counts.values()]
    return -sum(share * math.log2(share) for share in shares) if len(shares) > 1 else 0.0


def distinct_n(texts: Sequence[str], n: int = 2) -> float:
    """Share of different ones among all runs of ``n`` words of the texts (arXiv 1510.03055); 1 where there is none."""
    runs = list(chain.from_iterable(_runs(text.split(), n) for text in texts))
    return len(set(runs)) / len(runs) if runs else 1.0


def self_bleu(texts: Sequence[str]) -> float:
    """Mean BLEU of each text against the others, in [0, 1] (arXiv 1802.01886); high where texts repeat each other.

    Raises:
        AnatomyError: fewer than two texts, or the extra ``diversity`` is missing.
    """
    try:
        from sacrebleu.metrics import BLEU
    except ModuleNotFoundError:
        raise AnatomyError("self-BLEU needs sacrebleu: pip install 'anatomy-r1[diversity]'.") from None
    if len(texts) < 2:
        raise AnatomyError(f"self-BLEU needs two texts or more, got {len(texts)}.")
    bleu = BLEU(effective_order=True)
    scores = [
        bleu.sentence_score(text, [*texts[:place], *texts[place + 1 :]]).score for place, text in enumerate(texts)
    ]
    return float(sum(scores)) / len(scores) / 100


def permutation_consistency(chosen: Sequence[Sequence[Hashable]]) -> float:
    """Share of questions answered the same under all permutations of their options.

    Args:
        chosen: per question, the text that was chosen under each permutation (None: unreadable, which never agrees).
    """
    if not chosen:
        raise AnatomyError("permutation consistency needs at least one question.")
    return sum(len(set(texts)) == 1 and texts[0] is not None for texts in chosen) / len(chosen)


def _runs(words: list[str], n: int) -> list[tuple[str, ...]]:
    return [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]
