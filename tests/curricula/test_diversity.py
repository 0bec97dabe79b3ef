import pytest

from anatomy_r1.core import AnatomyError
from anatomy_r1.curricula import answer_entropy, distinct_n, permutation_consistency, self_bleu


@pytest.mark.parametrize(
    ("chosen", "bits"),
    [(["gut"] * 4, 0), (["gut", "Gut.", "liver", "liver"], 1), (["a", "b", "c", None], 2), ([None, None], 0)],
)
def test_entropy_over_what_was_chosen(chosen, bits):
    assert answer_entropy(chosen) == pytest.approx(bits)


def test_distinct_n_is_the_share_of_different_runs():
    assert distinct_n(["a b c", "a b d"], 2) == pytest.approx(3 / 4)
    assert distinct_n(["a b"] * 5, 1) == pytest.approx(2 / 10)
    assert distinct_n(["one"], 2) == 1


def test_self_bleu_tells_repetition_from_variety():
    pytest.importorskip("sacrebleu", reason="needs the extra 'diversity'")
    same = ["the organ at the top is red and smooth"] * 3
    mixed = ["the organ at the top is red", "what a fine yellow fold", "I can see no vessel here at all"]
    assert self_bleu(same) == pytest.approx(1)
    assert self_bleu(mixed) < 0.2
    with pytest.raises(AnatomyError, match="two texts"):
        self_bleu(["one"])


def test_self_bleu_without_its_extra_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "sacrebleu.metrics", None)
    with pytest.raises(AnatomyError, match=r"anatomy-r1\[diversity\]"):
        self_bleu(["a", "b"])


def test_permutation_consistency_counts_questions_answered_the_same():
    assert permutation_consistency([["gut", "gut"], ["gut", "liver"], [None, None], ["liver", "liver"]]) == 0.5
    with pytest.raises(AnatomyError):
        permutation_consistency([])
