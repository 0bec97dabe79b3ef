"""Real engines of vLLM on a CPU, in an environment of their own: `make test-vllm`. Elsewhere nothing here runs."""

import importlib.util
import os
import runpy
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

HERE = Path(__file__).parent
collect_ignore_glob = [] if importlib.util.find_spec("vllm") else ["test_*.py"]
if not collect_ignore_glob:
    sys.path.insert(0, str(HERE.parent / "agents"))  # for helpers that lie there
    TRICK = runpy.run_path(str(HERE / "site/sitecustomize.py"))
    # vLLM looks at a model's class in a process of its own.
    os.environ["VLLM_CPU_KVCACHE_SPACE"] = "1"  # GiB, in place of a share of what happens to be free
    os.environ["PYTHONPATH"] = os.pathsep.join([str(HERE / "site"), os.environ.get("PYTHONPATH", "")])


def pytest_collection_modifyitems(items):
    """What vLLM calls that is deprecated is for vLLM to mend: here alone, a warning is no error."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.filterwarnings("default"))


SETTINGS = {"memory_share": 0.05, "enforce_eager": True}


@pytest.fixture(scope="session")
def questions():
    from anatomy_r1.banks import open_bank

    bank = open_bank("scenes", "train")
    return [bank.question(i) for i in range(6)]


@pytest.fixture(scope="session")
def observations(questions):
    from anatomy_r1.core import render_prompt

    return {"image": [q.pixels() for q in questions], "prompt": [render_prompt(q) for q in questions]}


@pytest.fixture(scope="session")
def qwen_folder(tmp_path_factory):
    """A tiny random Qwen2.5-VL, as its users have it."""
    import family_folders as folders

    from anatomy_r1.banks import open_bank

    # vLLM's attention on CPUs serves no heads as small as those.
    folders.TEXT |= {"hidden_size": 128, "intermediate_size": 160}
    folders.QWEN_VISION |= {"out_hidden_size": 128}
    folders.MROPE |= {"mrope_section": [4, 6, 6]}
    return folders.build_folder("qwen2_5_vl", tmp_path_factory.mktemp("qwen"), open_bank("scenes", "train"))


@pytest.fixture(scope="session")
def engine_policy():
    """The embedded model in an engine of this process; tests give it its weights and its temperature."""
    from anatomy_r1.agents import make_policy

    return make_policy("vllm:tiny", max_new_tokens=24, **SETTINGS)


@pytest.fixture
def assert_answers_as(observations):
    """Check that a policy gives what transformers gives by the weights of a backbone."""
    from anatomy_r1.agents.policies import TransformersPolicy

    def check(policy, backbone):
        found = policy.respond(observations)
        expected = TransformersPolicy(backbone, max_new_tokens=24).respond(observations)
        assert [r.token_ids for r in found] == [r.token_ids for r in expected]
        for one, other in zip(found, expected, strict=True):
            assert one.logprobs == pytest.approx(other.logprobs, abs=1e-4)
            assert (one.text, one.truncated) == (other.text, other.truncated)

    return check


@pytest.fixture
def assert_follows(assert_answers_as):
    """Check that after each of some updates a policy of the embedded model answers by its new weights."""
    import torch

    from anatomy_r1.agents import TINY_FOLDER
    from anatomy_r1.agents.model import Backbone

    def check(policy, updates):
        backbone = Backbone.load(TINY_FOLDER)
        for _ in range(updates):
            policy.update_weights(backbone.model)
            assert_answers_as(policy, backbone)
            with torch.no_grad():
                for parameter in backbone.model.parameters():
                    parameter += 0.02 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1))

    return check


@pytest.fixture(scope="session")
def start_server(tmp_path_factory):
    """Start a server of the embedded model, with further arguments; returns its address and its process."""
    running = []

    def start(*arguments):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        from anatomy_r1.agents import TINY_FOLDER

        environment = os.environ | {
            "VLLM_SERVER_DEV_MODE": "1",
            "VLLM_CPU_OMP_THREADS_BIND": "nobind",
            "VLLM_LOGGING_LEVEL": "WARNING",
            "GLOO_FOR_NCCL": "1",
        }
        log = tmp_path_factory.mktemp("server") / "log.txt"
        out = log.open("w")
        process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "vllm.entrypoints.openai.api_server",
                "--model",
                str(TINY_FOLDER),
                "--host",
                "127.0.0.1",
                "--port",
                str(port),
                "--dtype",
                "float32",
                "--enforce-eager",
                "--gpu-memory-utilization",
                "0.05",
                "--logprobs-mode",
                "processed_logprobs",
                "--enable-scale-out",
                "--no-enable-chunked-prefill",
                "--limit-mm-per-prompt",
                '{"image": 1}',
                *arguments,
            ],
            env=environment,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        out.close()
        running.append(process)
        address = f"http://127.0.0.1:{port}"
        for _ in range(600):
            if process.poll() is not None:
                break
            try:
                urllib.request.urlopen(f"{address}/health", timeout=5).close()
                return address, process
            except OSError:
                time.sleep(0.5)
        raise RuntimeError(f"the server did not start: {log.read_text()[-2000:]}")

    yield start
    for process in running:
        stop(process)


def stop(process):
    """End a server with the processes it started."""
    if process.poll() is None:
        os.killpg(process.pid, 9)
    process.wait(30)


@pytest.fixture(scope="session")
def end_server():
    return stop


@pytest.fixture(scope="session")
def server_address(start_server):
    return start_server()[0]
