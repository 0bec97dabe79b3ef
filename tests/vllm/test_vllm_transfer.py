"""Weights from device to device: vLLM's own transfer between two processes, gloo in place of NCCL (see site/)."""

import runpy
from pathlib import Path

import pytest
import torch
from adapted_models import stirred

from anatomy_r1.agents import TINY_FOLDER, VllmSettings
from anatomy_r1.agents.model import Backbone
from anatomy_r1.agents.policies import PolicyLost
from anatomy_r1.agents.policies.vllm import VllmPolicy, transfer
from anatomy_r1.core import AnatomyError

BY_NCCL = ("--weight-transfer-config", '{"backend": "nccl"}')


@pytest.fixture(scope="module")
def receiving(start_server):
    return start_server(*BY_NCCL)[0]


@pytest.fixture
def connect(monkeypatch):
    """Make a policy of a server; this process is taken for one with a GPU."""
    plugin = runpy.run_path(str(Path(__file__).parent / "site/gloo_for_nccl.py"))
    for owner, name, value in plugin["replacements"]():
        monkeypatch.setattr(owner, name, value)

    def start(address, **settings):
        settings = {"server": address, "retries": 1, "weights_by": "nccl"} | settings
        with monkeypatch.context() as patch:
            patch.setattr(torch.cuda, "is_available", lambda: True)
            return VllmPolicy(TINY_FOLDER, max_new_tokens=24, settings=VllmSettings(**settings), dummy=True)

    return start


def test_a_server_answers_by_the_weights_that_were_sent(connect, receiving, assert_follows):
    policy = connect(receiving)
    assert_follows(policy, updates=3)
    assert not list(policy.engine.folder.glob("*"))


def test_the_next_run_finds_the_server_free_and_adapters_arrive_merged(connect, receiving, assert_answers_as):
    connect(receiving).update_weights(Backbone.load(TINY_FOLDER).model)  # a run that ended without a word
    policy, backbone = connect(receiving), stirred()
    policy.update_weights(backbone.model)
    assert_answers_as(policy, backbone)


def test_a_server_knows_the_type_that_it_computes_in(connect, receiving):
    assert connect(receiving).engine.dtype == torch.float32
    assert connect(receiving, dtype="bfloat16").engine.dtype == torch.bfloat16


def test_a_server_that_was_not_started_for_it_is_refused_at_once(connect, server_address):
    with pytest.raises(
        AnatomyError, match=r"takes no weights over NCCL \(.*: none\); .* start it with\nVLLM_SERVER_DEV"
    ):
        connect(server_address)


def test_a_server_that_refuses_or_dies_does_not_leave_the_trainer_waiting(
    connect, start_server, end_server, monkeypatch
):
    monkeypatch.setattr(transfer, "GRACE", 0.5)
    address, process = start_server(*BY_NCCL)
    policy, model = connect(address), Backbone.load(TINY_FOLDER).model
    policy.update_weights(model)
    policy.engine._ask("/start_weight_update", {})  # as of a sender that went away in the middle
    with pytest.raises(PolicyLost, match=r"/start_weight_update: status 500"):
        policy.update_weights(model)
    with pytest.raises(PolicyLost, match=r"shutdown_weight_transfer_engine: status 500"):
        policy.update_weights(model)
    end_server(process)
    with pytest.raises(PolicyLost, match=r"/get_world_size: can't be reached \(.*\), after 1 try\."):
        policy.update_weights(model)
    with pytest.raises(PolicyLost, match="/version: can't be reached"):
        connect(address)
