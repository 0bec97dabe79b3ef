"""The example of an algorithm of one's own: it runs, by public names alone, and what it raises is what is rewarded."""

import ast
import importlib.util
from pathlib import Path

import pytest
import torch

PATH = Path(__file__).parents[2] / "examples/own_algorithm.py"


@pytest.fixture
def example():
    spec = importlib.util.spec_from_file_location("own_algorithm", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_it_learns_from_what_it_samples(example, make_talker):
    backbone = make_talker()
    before = [parameter.detach().clone() for parameter in backbone.model.parameters()]
    rewards = list(example.reinforce(backbone, steps=2, groups=2, size=4))
    assert len(rewards) == 2 and all(0 <= reward <= 1.5 for reward in rewards)
    assert any(not torch.equal(a, b) for a, b in zip(before, backbone.model.parameters(), strict=True))


def test_rewarded_responses_become_likelier(example, make_talker, monkeypatch):
    """One batch, its rewards ours: the first response of each group is paid, so its log-prob must rise."""
    backbone, kept = make_talker(), []

    def sample(env, policy, progress):
        batch = kept[0] if kept else sample_batch(env, policy)
        kept[:] = [batch]
        batch.rewards[:] = [1.0, 0.0, 0.0, 0.0] * 2
        return batch

    sample_batch = example.sample_batch
    monkeypatch.setattr(example, "sample_batch", sample)

    def paid():
        batch = kept[0]
        prompts = [backbone.encode(*asked) for asked in zip(batch.images, batch.prompts, strict=True)]
        tokens = [response.token_ids for response in batch.responses]
        rows = {}
        for tree in example.build_trees(range(8), prompts, tokens, max_tokens=4096):
            with torch.no_grad():
                sums = example.ResponseLogProbs(backbone)([tree]).logprobs.sum(1)
            rows |= dict(zip(tree.rows.tolist(), sums.tolist(), strict=True))
        return rows[0] + rows[4] - sum(rows[i] for i in (1, 2, 3, 5, 6, 7)) / 3

    steps = example.reinforce(backbone, steps=6, groups=2, size=4, rate=1e-3)
    next(steps)
    first = paid()
    list(steps)
    assert paid() > first


def test_it_is_short_and_uses_public_names_alone():
    tree = ast.parse(PATH.read_text())
    (function,) = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    loop = next(node for node in function.body if isinstance(node, ast.For))
    assert loop.end_lineno - function.body[1].lineno < 26
    names = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert not [name for name in names | imported if name.startswith("_")]
