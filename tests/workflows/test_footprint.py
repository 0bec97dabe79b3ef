"""What a run needs, computed: what is shared out among processes, and what grows with a group."""

import pytest

from anatomy_r1.agents import TINY_FOLDER, ModelConfig
from anatomy_r1.cli.main import run
from anatomy_r1.workflows.footprint import Load, footprint, skeleton

ENGINES = {"ACCELERATE_USE_FSDP": "true", "ACCELERATE_USE_PARALLELISM_CONFIG": "true"}


def load(responses):
    return Load(questions=1, responses=responses, length=256, max_tokens=1 << 20, autocast=True)


@pytest.fixture
def model():
    return skeleton(TINY_FOLDER, ModelConfig())


def test_masks_grow_with_the_tokens_of_a_group_not_with_their_square(model):
    one, two = (footprint(model, load(n), 400, checkpointing=False).memory for n in (32, 64))
    assert one["attention masks"] < two["attention masks"] < 2 * one["attention masks"]
    assert two["attention masks"] < (400 + 64 * 256) ** 2 / 8


def mesh(monkeypatch, processes, **sizes):
    monkeypatch.setenv("WORLD_SIZE", str(processes))
    for name, value in (ENGINES | {f"PARALLELISM_CONFIG_{k.upper()}_SIZE": str(v) for k, v in sizes.items()}).items():
        monkeypatch.setenv(name, value)


def test_a_copy_of_the_weights_is_spread_over_a_node(model, tmp_path, monkeypatch, capsys):
    whole, spread = (footprint(model, load(8), 400, checkpointing=False, processes=16, shards=n) for n in (1, 8))
    for name in ("weights", "gradients", "moments"):
        assert spread.memory[name] == whole.memory[name] // 8
    monkeypatch.chdir(tmp_path)
    mesh(monkeypatch, 16, dp_replicate=2, dp_shard=8)
    assert run(["train", "--dry-run"]) == 0
    assert "16, weights spread over 8" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("processes", "sizes", "said"),
    [
        (8, {"dp_replicate": 2, "dp_shard": 8}, "dp_replicate_size 2 x dp_shard_size 8 is not the 8 processes"),
        (8, {"dp_replicate": 8, "dp_shard": 1}, "spreads no weights: use configs/accelerate/ddp.yaml"),
        (8, {"dp_shard": 4, "tp": 2}, "tp_size 2, which is not served"),
    ],
)
def test_a_mesh_that_does_not_serve_is_refused(processes, sizes, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    mesh(monkeypatch, processes, **sizes)
    assert run(["train", "--dry-run"]) == 2
    assert said in " ".join(capsys.readouterr().err.split())
