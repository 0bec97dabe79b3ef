"""The tree and the padded rows against one row at a time through the plain model: log-probs, entropies, gradients."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from anatomy_r1.agents.logprobs import LongRow, ResponseLogProbs, batches, build_tree, build_trees, tempered_log_softmax
from anatomy_r1.agents.logprobs.chunked_softmax import chosen_logprobs
from anatomy_r1.agents.logprobs.tree_mask import tree_mask
from anatomy_r1.core import render_prompt

RESPONSES = [[7, 8, 9, 3], [7, 8, 4], [10], [7, 8, 9, 3], [200, 5], [60, 61, 62, 63, 64], [7]]
TEMPERATURE = 0.8


@pytest.fixture
def double(make_backbone):
    backbone = make_backbone()
    backbone.model.double()
    return backbone


@pytest.fixture
def prompts(double, scenes):
    """Two images; the first in two wordings."""
    first, second = scenes.question(0), scenes.question(1)
    images = [first.pixels(), second.pixels()]
    texts = [render_prompt(first), render_prompt(first).replace("Question", "Answer"), render_prompt(second)]
    encoded = [double.encode(images[i], text) for i, text in zip((0, 0, 1), texts, strict=True)]
    return [encoded[i] for i in (0, 0, 0, 1, 1, 2, 2)]


def alone(backbone, prompt, response):
    """Log-probs and entropies of one row through the model's own forward pass."""
    tokens = torch.cat([prompt.tokens, torch.tensor(response)])[None]
    logits = backbone.model(input_ids=tokens, **prompt.per_image).logits[0, len(prompt.tokens) - 1 : -1]
    logits[:, backbone.banned] = -torch.inf
    logprobs = (logits / TEMPERATURE).log_softmax(-1)
    return logprobs[range(len(response)), response], torch.special.entr(logprobs.exp()).sum(-1)


def gradients(backbone, loss):
    backbone.model.zero_grad()
    loss.backward()
    return [p.grad.clone() for p in backbone.model.parameters() if p.grad is not None]


@pytest.mark.parametrize("packing", ["tree", "padded"])
def test_scores_and_gradients_equal_one_row_at_a_time(double, prompts, packing):
    weights = torch.randn(len(RESPONSES), 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    singles = [alone(double, *pair) for pair in zip(prompts, RESPONSES, strict=True)]
    expected = gradients(double, sum((lp * w[: len(lp)]).sum() for (lp, _), w in zip(singles, weights, strict=True)))

    trees = build_trees(range(len(RESPONSES)), prompts, RESPONSES, 10_000)
    assert len(trees) == 2
    scores = ResponseLogProbs(double, packing)(trees, TEMPERATURE)
    rows = np.concatenate([tree.rows for tree in trees])
    for place, row in enumerate(rows):
        length = len(RESPONSES[row])
        assert scores.mask[place].tolist() == [True] * length + [False] * (5 - length)
        assert torch.allclose(scores.logprobs[place, :length].double(), singles[row][0], atol=1e-6)
        assert torch.allclose(scores.entropy[place, :length].double(), singles[row][1], atol=1e-6)
        assert not scores.logprobs[place, length:].any()
    found = gradients(double, (scores.logprobs * weights[rows]).sum())
    total = torch.cat([g.flatten() for g in expected])
    error = torch.cat([(a - b).flatten() for a, b in zip(found, expected, strict=True)])
    assert len(found) == len(expected)
    assert error.norm() / total.norm() < 1e-6


def test_tree_holds_each_distinct_token_once(prompts):
    first, second = build_trees(range(len(RESPONSES)), prompts, RESPONSES, 10_000)
    pairs = zip(prompts[0].tokens.tolist(), prompts[3].tokens.tolist(), strict=False)
    shared = next(i for i, (a, b) in enumerate(pairs) if a != b)
    wordings = len(prompts[0].tokens) + len(prompts[3].tokens) - shared
    # 7 8 9 3 / 7 8 4 / 10 in the first wording, 7 8 9 3 / 200 5 in the second
    assert len(first) == wordings + 6 + 6
    assert len(second) == len(prompts[5].tokens) + 6
    assert (first.parents < np.arange(len(first))).all()


def test_trees_over_the_budget_are_split_and_give_the_same_scores(double, prompts):
    scorer = ResponseLogProbs(double)
    whole = {}
    for tree in build_trees(range(7), prompts, RESPONSES, 10_000):
        whole |= dict(zip(tree.rows.tolist(), scorer([tree]).logprobs, strict=True))
    budget = max(len(p.tokens) for p in prompts) + 7
    trees = build_trees(range(7), prompts, RESPONSES, budget)
    assert len(trees) > 2 and all(len(tree) <= budget for tree in trees)
    for batch in batches(trees, 2 * budget):
        for tree, scores in zip(batch, scorer(batch).logprobs.split([len(t.rows) for t in batch]), strict=True):
            for row, score in zip(tree.rows.tolist(), scores, strict=True):
                assert torch.allclose(score[: len(RESPONSES[row])], whole[row][: len(RESPONSES[row])], atol=1e-9)
    with pytest.raises(LongRow) as error:
        build_trees(range(7), prompts, RESPONSES, 20)
    assert error.value.row == 0 and error.value.tokens == len(prompts[0].tokens) + 4


@given(st.lists(st.integers(1, 50), min_size=1, max_size=30), st.integers(50, 200))
@settings(max_examples=50)
def test_batches_keep_every_tree_and_the_budget(sizes, budget):
    class Sized(list):
        pass

    trees = [Sized(range(size)) for size in sizes]
    made = list(batches(trees, budget))
    assert sorted(id(tree) for batch in made for tree in batch) == sorted(map(id, trees))
    assert all(len(batch) * max(map(len, batch)) <= budget for batch in made)


def test_images_are_processed_once_however_many_wordings(double, scenes):
    encoder, image = double.encode, scenes.question(3).pixels()
    before = encoder.images_processed
    several = [encoder(image, f"wording {i}") for i in range(5)]
    assert encoder.images_processed == before + 1
    assert all(s.per_image["pixel_values"] is several[0].per_image["pixel_values"] for s in several)
    assert encoder(image, "wording 2") is several[2]
    plain = double.processor(text=[encoder.render("wording 2")], images=[[image]], return_tensors="pt")
    assert torch.equal(plain["input_ids"][0], several[2].tokens)
    assert torch.equal(plain["pixel_values"], several[2].per_image["pixel_values"])


@pytest.mark.parametrize("chunk", [1, 7, 100])
def test_chunks_change_neither_values_nor_gradients(chunk):
    generator = torch.Generator().manual_seed(1)
    head = torch.nn.Linear(6, 11, bias=False, dtype=torch.float64)
    hidden = torch.randn(20, 6, generator=generator, dtype=torch.float64, requires_grad=True)
    targets = torch.randint(2, 11, (20,), generator=generator)
    banned = torch.tensor([0, 1])

    def run(size):
        values, entropy = chosen_logprobs(head, hidden, targets, banned, 0.5, chunk=size)
        return values, entropy, torch.autograd.grad(values.sum(), [hidden, head.weight])

    expected, found = run(1000), run(chunk)
    assert torch.allclose(expected[0], found[0]) and torch.allclose(expected[1], found[1])
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(expected[2], found[2], strict=True))
    assert not torch.exp(tempered_log_softmax(head(hidden), banned, 0.5))[:, banned].any()


def test_a_tree_of_one_row_is_that_row(prompts):
    tree = build_tree([4], [prompts[5]], [[9, 9, 9]])
    assert tree.tokens.tolist() == [*prompts[5].tokens.tolist(), 9, 9, 9]
    mask = tree_mask([tree], len(tree)).dense()[0, 0]
    assert mask.tolist() == np.tril(np.ones((len(tree), len(tree)), dtype=bool)).tolist()


def test_weights_that_take_part_in_a_pass_are_found(make_talker):
    backbone = make_talker()
    scorer = ResponseLogProbs(backbone)
    learning = {id(weight) for weight in scorer.parameters() if weight.requires_grad}
    assert scorer.weights_in_use() == learning
    scorer.spare = torch.nn.Parameter(torch.zeros(2))
    frozen = backbone.model.get_output_embeddings().weight.requires_grad_(False)
    assert scorer.weights_in_use() == learning - {id(frozen)}, "neither one that no pass asks nor one that is frozen"
