"""Trees, their masks in every form, and attention under them, against what a table of all ancestors says."""

import functools
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.attention import flex_attention
from torch.nn.functional import scaled_dot_product_attention

from anatomy_r1.agents import ModelConfig
from anatomy_r1.agents.configs import TINY_FOLDER
from anatomy_r1.agents.logprobs import (
    ResponseLogProbs,
    build_tree,
    build_trees,
    check_trees,
    flex,
    most_keys,
    tree_attention,
)
from anatomy_r1.agents.logprobs.attention_ways import way_in_words, way_of
from anatomy_r1.agents.logprobs.compat import attention_of, compiled
from anatomy_r1.agents.logprobs.tree_mask import TreeMask, tree_mask
from anatomy_r1.agents.model import Backbone, onto
from anatomy_r1.core import AnatomyError

CPU = torch.device("cpu")
TOKENS = st.lists(st.integers(0, 2), min_size=1, max_size=8)


def prompt(tokens):
    return SimpleNamespace(tokens=torch.tensor(tokens))


@st.composite
def asked(draw):
    """Prompts that share beginnings, and for each row one of them and a response."""
    prompts = [prompt([7, *draw(TOKENS)]) for _ in range(draw(st.integers(1, 3)))]
    rows = draw(st.lists(st.tuples(st.sampled_from(prompts), TOKENS), min_size=1, max_size=7))
    return [one for one, _ in rows], [response for _, response in rows]


def by_token(prompts, responses):
    """A tree built token by token: what stands before a token and the token → the prompt that brought it."""
    known, numbers = {}, {}
    for one, response in zip(prompts, responses, strict=True):
        number = numbers.setdefault(id(one), len(numbers))
        text = [*one.tokens.tolist(), *response]
        for length in range(1, len(text) + 1):
            known.setdefault(tuple(text[:length]), number)
    return known


@given(asked())
@settings(max_examples=200, deadline=None)
def test_a_tree_is_the_one_that_is_built_token_by_token(rows):
    prompts, responses = rows
    tree, expected = build_tree(range(len(prompts)), prompts, responses), by_token(prompts, responses)
    texts = []
    for token, parent in zip(tree.tokens.tolist(), tree.parents.tolist(), strict=True):
        texts.append((*(texts[parent] if parent >= 0 else ()), token))
    assert dict(zip(texts, tree.prompt_of.tolist(), strict=True)) == expected and len(texts) == len(expected)
    assert tree.depths.tolist() == [len(text) - 1 for text in texts]
    for place, (one, response) in enumerate(zip(prompts, responses, strict=True)):
        whole = (*one.tokens.tolist(), *response)
        assert tree.prompts[tree.asked[place]] is one
        lengths = range(len(one.tokens) + 1, len(whole) + 1)
        assert [texts[node] for node in tree.paths[place]] == [whole[:n] for n in lengths]


def ancestors(tree):
    seen = np.eye(len(tree), dtype=bool)
    for node, parent in enumerate(tree.parents):
        if parent >= 0:
            seen[node] |= seen[parent]
    return seen


@st.composite
def masks(draw):
    """A mask of one to three trees, with or without a window and images, and the same as a table."""
    trees = [build_tree(range(len(p)), p, r) for p, r in draw(st.lists(asked(), min_size=1, max_size=3))]
    width = max(map(len, trees)) + draw(st.integers(0, 3))
    mask, table = tree_mask(trees, width), np.repeat(np.eye(width, dtype=bool)[None], len(trees), 0)
    window = draw(st.none() | st.integers(1, 6))
    images = draw(st.none() | st.lists(st.booleans(), min_size=width, max_size=width))
    for row, tree in enumerate(trees):
        table[row, : len(tree), : len(tree)] = ancestors(tree)
    depths = mask.depths.numpy()
    if window:
        table &= depths[:, :, None] - depths[:, None] < window
    if images:
        table |= np.outer(images, images)
        images = torch.tensor(images).repeat(len(trees), 1)
    return TreeMask(mask.ends, mask.depths, window, images), table


@given(masks(), st.integers(1, 5))
@settings(max_examples=100, deadline=None)
def test_every_form_of_a_mask_is_the_table_of_ancestors(made, size):
    mask, table = made
    width = table.shape[1]
    assert mask.dense()[:, 0].numpy().tolist() == table.tolist()
    for start in range(0, width, size):
        keys = mask.keys(start, start + size)
        others = np.setdiff1d(np.arange(width), keys)
        assert not table[:, start : start + size, others].any()
        assert mask.window or table[:, start : start + size].any((0, 1))[keys].all()
    held, full = (blocks.numpy() for blocks in mask.blocks(size))
    for tree, query, key in np.ndindex(*held.shape):
        block = table[tree, query * size : (query + 1) * size, key * size : (key + 1) * size]
        assert held[tree, query, key] if block.any() else mask.window or not held[tree, query, key]
        assert block.all() or not full[tree, query, key]
        if not mask.window and mask.images is None and query != key and (query + 1) * size <= width:
            assert full[tree, query, key] == block.all()
    assert (held | ~full).all()


def group(count=9, length=40):
    rng = np.random.default_rng(0)
    start = prompt(rng.integers(0, 99, 150).tolist())
    return build_tree(range(count), [start] * count, rng.integers(0, 99, (count, length)).tolist())


def different(mask):
    images = torch.arange(mask.shape[1]).repeat(len(mask.ends), 1) % 200 < 30
    return [mask, TreeMask(mask.ends, mask.depths, 50), TreeMask(mask.ends, mask.depths, 50, images)]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
def test_flex_attention_itself_reads_our_table_as_we_mean_it(monkeypatch):
    """As far as it runs without a GPU: forward, unfused."""
    monkeypatch.setattr(flex, "_compiled", lambda: flex_attention.flex_attention)
    trees = [group(), group(4)]
    for mask in different(tree_mask(trees, len(trees[0]) + 7)):
        query, key, value = torch.randn(3, 2, 2, mask.shape[1], 16, generator=torch.Generator().manual_seed(0))
        found = scaled_dot_product_attention(query, key, value, attn_mask=flex.flex_mask(mask, CPU), scale=0.3)
        expected = scaled_dot_product_attention(query, key, value, attn_mask=mask.dense(), scale=0.3)
        assert torch.allclose(found, expected, atol=1e-5)


def test_blocks_attend_as_the_dense_mask_does(monkeypatch):
    monkeypatch.setattr(tree_attention, "BLOCK", 64)
    trees = [group(), group(4)]
    for mask in different(tree_mask(trees, len(trees[0]) + 7)):
        states = torch.randn(3, 2, 2, mask.shape[1], 16, generator=torch.Generator().manual_seed(0)).requires_grad_()
        results = []
        for form in (tree_attention.cut(mask, CPU), mask.dense()):
            out = scaled_dot_product_attention(*states, attn_mask=form)
            results.append((out, *torch.autograd.grad(out.square().sum(), states)))
        assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(*results, strict=True))


def test_what_an_operation_makes_of_a_mask_without_values_is_refused():
    mask = tree_mask([group(30)], len(group(30)))
    changed = tree_attention.cut(mask, CPU)[:, :, :, :-1]
    states = torch.zeros(1, 1, mask.shape[1], 8)
    with pytest.raises(AnatomyError, match=r"changes its attention mask .*\n.*--grpo.packing padded"):
        scaled_dot_product_attention(states, states[:, :, :-1], states[:, :, :-1], attn_mask=changed)


@pytest.mark.parametrize("attention", ["auto", "sdpa", "eager"])
def test_the_tree_is_exact_whatever_the_attention(attention, scenes):
    backbone = Backbone.load(TINY_FOLDER, attention=attention, tower_attention="eager")
    assert way_of(backbone) == ("dense" if attention == "eager" else "blocks")
    encoded = backbone.encode(scenes.question(0).pixels(), "Which organ is this?")
    responses = [[260 + i, 270, 261, 280 + i, 262, 290] for i in range(4)]
    check_trees(backbone, build_trees(range(4), [encoded] * 4, responses, 10_000), 1.0)


def test_attention_of_decoder_and_tower_are_settings():
    def parts(**options):
        return Backbone.load(TINY_FOLDER, **options).model

    config = parts(attention="flex", tower_attention="eager").config
    # FlexAttention is for trees: all else goes through SDPA.
    assert [attention_of(part) for part in (config.text_config, config.vision_config)] == ["sdpa", "eager"]
    with pytest.raises(AnatomyError) as refused:
        parts(attention="flash_attention_2")
    assert "attention flash_attention_2, tower attention auto" in str(refused.value)
    assert str(refused.value).count("\n") == 1 and "Use --model.attention auto" in str(refused.value)
    assert ModelConfig().attention == ModelConfig().tower_attention == "auto"


def test_flex_attention_that_cannot_serve_is_refused_where_it_was_asked_for():
    backbone = Backbone.load(TINY_FOLDER, attention="flex")
    with pytest.raises(AnatomyError, match=r"flex can't serve here .it has no backward pass on cpu.\.\nUse --model"):
        way_of(backbone)
    backbone.attention = "auto"
    assert way_in_words(backbone) == "attention over trees goes in blocks over SDPA"
    assert ResponseLogProbs(backbone).packing == "tree"


def test_flex_attention_that_fails_on_the_way_gives_way_to_blocks(monkeypatch):
    def fails(*_):
        raise RuntimeError("no kernel\nof this shape")

    monkeypatch.setattr(flex, "attend", fails)
    mask = tree_mask([group(30)], len(group(30)))
    query, key, value = torch.randn(3, 1, 2, mask.shape[1], 16, generator=torch.Generator().manual_seed(0))
    taken = flex.flex_mask(mask, CPU)
    with pytest.warns(UserWarning, match=r"FlexAttention failed .RuntimeError: no kernel of this shape.; .* in blocks"):
        found = scaled_dot_product_attention(query, key, value, attn_mask=taken, scale=0.3)
    again = scaled_dot_product_attention(query, key, value, attn_mask=taken, scale=0.3)  # without another word
    expected = scaled_dot_product_attention(query, key, value, attn_mask=mask.dense(), scale=0.3)
    assert torch.equal(found, again) and torch.allclose(found, expected, atol=1e-5)


def test_more_variants_are_compiled_than_torch_allows_by_itself(monkeypatch):
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="eager"))

    def scaled(values, name):  # compiled anew for each name
        return values * len(name)

    usual = torch._dynamo.config.recompile_limit
    call = compiled(scaled, usual + 4)
    for length in range(usual + 4):
        assert call(torch.ones(2), "n" * length).tolist() == [length, length]
    assert torch._dynamo.config.recompile_limit == usual


def test_flex_attention_is_tried_with_both_passes_whoever_asks(monkeypatch):
    passed = []

    def stands_in(query, key, value, blocks, scale):
        assert blocks.shape == (1, 1, flex.TRIAL, flex.TRIAL)
        found = scaled_dot_product_attention(query, key, value, is_causal=True, scale=scale)
        found.register_hook(passed.append)
        return found

    monkeypatch.setattr(flex, "attend", stands_in)
    with torch.no_grad():  # as the check of a run's first trees does
        flex.trial(CPU, torch.float32, 2, 16)
    assert len(passed) == 1


def test_blocks_meet_no_more_keys_than_are_planned_for():
    rng, first, second = np.random.default_rng(5), prompt([7, *range(10, 300)]), prompt([8, *range(10, 200)])
    trees = []
    for one, count in ((first, 9), (second, 8)):
        responses = rng.integers(300, 900, size=(count, 120)).tolist()
        trees.append(build_tree(range(count), [one] * count, responses))
    width = max(map(len, trees))
    blocks = tree_attention.blocks_of(tree_attention.cut(tree_mask(trees, width), CPU))
    most = most_keys(width, len(first.tokens), 120, trees=2)
    assert max(len(block.keys) for block in blocks) <= most < width
    assert most_keys(300, 100, 20) == 300, "short trees have their mask whole"


def test_tensors_go_to_a_gpu_from_pinned_memory_and_nowhere_else_do():
    class Recorded:
        def __init__(self, kind):
            self.device, self.did = torch.device(kind), []

        def pin_memory(self):
            self.did.append("pinned")
            return self

        def to(self, device, *, non_blocking):
            self.did.append((device.type, non_blocking))

    for source, target, pinned in (("cpu", "cuda", True), ("cpu", "cpu", False), ("cuda", "cuda", False)):
        tensor = Recorded(source)
        onto(tensor, torch.device(target))
        assert tensor.did == ["pinned"] * pinned + [(target, True)]
