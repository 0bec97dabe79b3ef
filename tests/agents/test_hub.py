"""A hub that can't be reached is said at once, and its cache is used in its place."""

import os
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest

CHECK = """
import sys
from anatomy_r1.agents import require_reachable
from anatomy_r1.core import AnatomyError
try:
    require_reachable(sys.argv[1])
except AnatomyError as error:
    sys.exit(str(error))
import huggingface_hub.constants
print(huggingface_hub.constants.HF_HUB_OFFLINE, 'torch' in sys.modules)
"""


@pytest.fixture
def check(tmp_path):
    """What is said of a hub id or a path in a process of its own: its exit code, its words."""

    def run(path, endpoint="http://127.0.0.1:9", **environment):
        variables = {name: value for name, value in os.environ.items() if name != "HF_HUB_OFFLINE"}
        variables |= {"HF_HOME": str(tmp_path / "hf"), "HF_ENDPOINT": endpoint, **environment}
        done = subprocess.run(
            [sys.executable, "-c", CHECK, str(path)], cwd=tmp_path, env=variables, capture_output=True, text=True
        )
        return done.returncode, (done.stderr if done.returncode else done.stdout).strip()

    return run


def test_an_id_that_is_neither_cached_nor_reachable_is_refused_in_two_lines(check):
    for environment in ({}, {"HF_HUB_OFFLINE": "1"}):
        code, said = check("no/such-model", **environment)
        assert code == 1 and "not in the cache, and http://127.0.0.1:9 can't be reached" in said
        assert said.count("\n") == 1


def test_what_is_in_the_cache_is_loaded_from_there(check, tmp_path):
    cached = tmp_path / "hf/hub/models--some--model"
    (cached / "refs").mkdir(parents=True)
    (cached / "refs/main").write_text("abc")
    (cached / "snapshots/abc").mkdir(parents=True)
    (cached / "snapshots/abc/config.json").write_text("{}")
    assert check("some/model") == (0, "True False")


def test_folders_are_not_asked_for(check, tmp_path):
    (tmp_path / "mine").mkdir()
    assert check("mine") == (0, "False False") and check("/no/such/folder") == (0, "False False")


def test_a_hub_that_answers_is_left_to_its_client(check):
    class Refuses(BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.send_error(404)

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Refuses) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            assert check("no/such-model", f"http://127.0.0.1:{server.server_port}") == (0, "False False")
        finally:
            server.shutdown()
            thread.join()


def test_adapters_are_as_reachable_as_their_base(check, tmp_path):
    (tmp_path / "adapters").mkdir()
    described = tmp_path / "adapters/adapter_config.json"
    described.write_text('{"base_model_name_or_path": "no/such-base"}')
    code, said = check("adapters")
    assert code == 1 and "no/such-base: there is no such folder" in said
    described.write_text("{}")
    code, said = check("adapters")
    assert code == 1 and "expected the base model as base_model_name_or_path, got None" in said


COMMANDS = """
import sys
from anatomy_r1.cli.main import run
for line in sys.argv[1:]:
    print("code", run(line.split()), "torch" in sys.modules, file=sys.stderr)
"""
ASKING = [
    "evaluate --policy hf:no/such",
    "train --policy hf:no/such",
    "train --policy hf:no/such --dry-run",
    "sft --policy hf:no/such",
    "sft --policy hf:no/such --dry-run",
    "curriculum similarity --tower hf:no/such",
    "watch --policy hf:no/such",
]


def test_every_command_says_so_in_two_lines_before_torch_is_loaded(tmp_path):
    known = {"HF_HOME": str(tmp_path / "hf"), "HF_ENDPOINT": "http://127.0.0.1:9", "HF_HUB_OFFLINE": "0"}
    command = [sys.executable, "-c", COMMANDS, *ASKING, "bank validate hf:no/such"]
    done = subprocess.run(command, cwd=tmp_path, env=os.environ | known, capture_output=True, text=True)
    *answers, rest = done.stderr.split("code 2 False\n")
    assert rest == "" and len(answers) == len(ASKING) + 1, done.stderr
    for line, said in zip(ASKING, answers, strict=False):
        assert "no/such" in said and "can't be reached" in said and said.count("\n") == 2, line
    assert "the hub can't be reached: http://127.0.0.1:9 can't be reached; check the network" in answers[-1]
    assert answers[-1].count("\n") == 1 and not list(tmp_path.glob("runs/*"))
