"""A task behind OpenEnv's protocol: real servers, its own client, its own validator; `make test-integrations`."""

import contextlib
import json
import re
import subprocess
import sys
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from anatomy_r1.core import AnatomyError

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "examples/openenv_env"
RIGHT = "<think>I look.</think><answer>A</answer>"
PATIENT = {"connect_timeout_s": 120, "message_timeout_s": 300}  # for a machine that is busy


@pytest.fixture(scope="module")
def client():
    pytest.importorskip("openenv.core")
    from anatomy_r1.integrations import openenv_client

    return openenv_client


def environment(**variables):
    return {"PYTHONPATH": str(ROOT / "src"), "PATH": "/usr/bin:/bin", "HOME": "/nowhere", **variables}


@contextlib.contextmanager
def served(folder=FOLDER, **settings):
    """The address of a server process, by the command in the container file."""
    command = [sys.executable, "-m", "uvicorn", "server.app:app", "--port", "0"]
    variables = environment(ANATOMY_R1_TASK=json.dumps(settings), OMP_NUM_THREADS="1")
    with subprocess.Popen(command, cwd=folder, env=variables, stderr=subprocess.PIPE, text=True) as server:
        said = []
        try:
            for line in server.stderr:
                said.append(line)
                if found := re.search(r"running on (http://\S+)", line):
                    yield found[1]
                    break
            else:
                pytest.fail("".join(said))
        finally:
            server.terminate()
            server.communicate()


@pytest.fixture(scope="module")
def server():
    pytest.importorskip("openenv.core")
    with served(group_size=4, max_sessions=12, curriculum="asc") as address:
        yield address


@pytest.fixture
def session(client, server):
    with client.AnatomyEnv(base_url=server, **PATIENT).sync() as env:
        yield env


@pytest.mark.parametrize("course", ["scenes", "brain-atlas"])
def test_openenv_keeps_the_contract(client, contract, course):
    """Through a server and its client, images and rewards are ours to the bit; a place of a group to each session."""
    pairs = 0
    with served(group_size=contract.SIZE, **contract.COURSES[course]) as address, contextlib.ExitStack() as open_:
        sessions = [
            open_.enter_context(client.AnatomyEnv(base_url=address, **PATIENT).sync()) for _ in range(contract.SIZE)
        ]
        for group in contract.groups_of(course):
            asked = [env.reset(progress=group[0]["progress"]).observation for env in sessions]
            assert [contract.digest(one.prompt) for one in asked] == [line["prompt"] for line in group]
            assert [contract.digest(one.pixels()) for one in asked] == [line["image"] for line in group]
            said = [client.AnatomyAction(response=line["response"]) for line in group]
            paid = [env.step(action) for env, action in zip(sessions, said, strict=True)]
            assert [one.reward for one in paid] == [line["reward"] for line in group]
            assert all(one.done and one.observation.group == asked[0].group for one in paid)
            assert all(one.metadata["question"] == line["question"] for one, line in zip(paid, group, strict=True))
            pairs += len(group)
    assert pairs == 500


def test_an_observation_is_a_message_with_an_image(client, session, contract):
    asked = session.reset().observation
    (message,) = asked.messages()
    image, text = message["content"]
    assert message["role"] == "user" and text == {"type": "text", "text": asked.prompt}
    assert np.array_equal(contract.pixels(image["image_url"]["url"]), asked.pixels())
    assert asked.pixels().dtype == np.uint8 and asked.pixels().ndim == 3
    answered = session.step(client.AnatomyAction(response=RIGHT)).observation
    with pytest.raises(AnatomyError, match="it has no image") as told:
        answered.pixels()
    assert len(str(told.value).splitlines()) == 2


def test_sessions_at_a_time_share_the_questions_of_their_groups(client, server):
    """Twelve sessions of three groups of four, all at once, and what they leave is handed out again."""
    names = [name for name in "xyz" for _ in range(4)]
    with contextlib.ExitStack() as open_:
        sessions = [open_.enter_context(client.AnatomyEnv(base_url=server, **PATIENT).sync()) for _ in names]
        with ThreadPoolExecutor(len(names)) as pool:
            asked = list(pool.map(lambda env, name: env.reset(group=name).observation, sessions, names))
        shown = {(name, one.group, one.image.data) for name, one in zip(names, asked, strict=True)}
        assert len(shown) == 3 and len({group for _, group, _ in shown}) == 3
        with pytest.raises((RuntimeError, ConnectionError), match="CAPACITY_REACHED"):
            client.AnatomyEnv(base_url=server, **PATIENT).sync().reset()
        for env in sessions[1:4]:
            assert env.step(client.AnatomyAction(response="no")).reward == 0
    with client.AnatomyEnv(base_url=server, **PATIENT).sync() as env:
        assert env.reset(group="x").observation.group == asked[0].group


def test_a_seed_asks_the_same_and_the_state_names_the_episode(session):
    first, other, again = (session.reset(seed=seed, episode_id=f"e{seed}").observation for seed in (5, 6, 5))
    assert first == again and first.prompt != other.prompt and first.group is None
    assert (session.state().episode_id, session.state().step_count) == ("e5", 0)


BAD = {
    "a step before a reset": ({"type": "step", "data": {"response": "a"}}, "EXECUTION_ERROR", "no question is open"),
    "no response": ({"type": "step", "data": {}}, "VALIDATION_ERROR", "Field required"),
    "another field": ({"type": "step", "data": {"response": "a", "more": 1}}, "VALIDATION_ERROR", "not permitted"),
    "an action that is none": ({"type": "step", "data": "A"}, "VALIDATION_ERROR", "valid dictionary"),
    "a group that is no name": ({"type": "reset", "data": {"group": [1]}}, "EXECUTION_ERROR", "group must be a name"),
    "seed and group": ({"type": "reset", "data": {"group": 1, "seed": 1}}, "EXECUTION_ERROR", "got both"),
    "a seed below 0": ({"type": "reset", "data": {"seed": -1}}, "EXECUTION_ERROR", "seed must be"),
    "a seed of text": ({"type": "reset", "data": {"seed": "x"}}, "EXECUTION_ERROR", "seed must be"),
    "a progress above 1": ({"type": "reset", "data": {"group": "p", "progress": 2}}, "EXECUTION_ERROR", "progress"),
    "another message": ({"type": "jump"}, "UNKNOWN_TYPE", "jump"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_told_and_the_session_goes_on(client, server, name):
    from websockets.sync.client import connect

    message, code, match = BAD[name]
    with connect(server.replace("http", "ws") + "/ws", open_timeout=120) as socket:
        socket.send(json.dumps(message))
        answer = json.loads(socket.recv())
        assert answer["type"] == "error" and answer["data"]["code"] == code
        assert match in json.dumps(answer["data"])
        assert len(answer["data"]["message"].splitlines()) <= 2
        for request in ({"type": "reset", "data": {}}, {"type": "step", "data": {"response": RIGHT}}):
            socket.send(json.dumps(request))
            answer = json.loads(socket.recv())
        assert answer["data"]["done"] and answer["data"]["reward"] in (0.5, 1.5)


def test_what_is_told_to_any_client_leaves_the_question_open(client, server):
    """OpenEnv's client without our classes, as trainers have it."""
    from openenv.core import GenericEnvClient

    with GenericEnvClient(base_url=server, **PATIENT).sync() as env:
        shown = client.AnatomyObservation(**env.reset(group="g").observation)
        assert shown.messages()[0]["content"][1]["text"] == shown.prompt
        for response in (3, None, ["a"], {"a": 1}):
            with pytest.raises(RuntimeError, match="a response must be text"):
                env.step({"response": response})
        assert env.step({"response": RIGHT.replace("look", "\ud800")}).reward in (0.5, 1.5)
        with pytest.raises(RuntimeError, match=r"or it is answered\.\nreset\(\) draws one"):
            env.step({"response": RIGHT})
        assert env.reset().observation["prompt"]


def test_single_requests_are_answered_in_words(server):
    """Each of these has a session of its own: a question by itself can't be answered later."""

    def post(path, body):
        data, kind = json.dumps(body).encode(), {"Content-Type": "application/json"}
        return urllib.request.urlopen(urllib.request.Request(f"{server}/{path}", data, kind))

    with post("reset", {}) as answer:
        assert json.load(answer)["observation"]["image"]["mimeType"] == "image/png"
    with pytest.raises(urllib.error.HTTPError) as told:
        post("step", {"action": {"response": RIGHT}})
    with told.value as error:
        assert error.code == 422 and "no question is open" in json.load(error)["detail"]


def test_the_embedded_model_answers_by_the_example(client, tmp_path):
    pytest.importorskip("torch")
    script = ROOT / "examples/with_openenv.py"
    assert len(script.read_text().splitlines()) <= 30
    variables = environment(OMP_NUM_THREADS="1", HF_HUB_OFFLINE="1") | {"HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, script, "2"], env=variables, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    groups = [line.split()[3:] for line in done.stdout.splitlines() if line.startswith("group")]
    assert [len(rewards) for rewards in groups] == [8, 8]
    assert {reward for one in groups for reward in one} <= {"0.0", "0.5", "1.5"}


@pytest.mark.parametrize(
    "text, match", [("[1]", "a JSON object"), ("{", "a JSON object"), ('{"max_sessions": 0}', "max_sessions must be")]
)
def test_settings_that_are_none_are_told(client, monkeypatch, text, match):
    from anatomy_r1.integrations import openenv_server

    monkeypatch.setenv("ANATOMY_R1_TASK", text)
    with pytest.raises(AnatomyError, match=match):
        _ = openenv_server.app


def test_a_server_with_settings_that_are_none_ends_in_two_lines(client):
    command = [sys.executable, "-m", "uvicorn", "anatomy_r1.integrations.openenv_server:app", "--port", "0"]
    settings = environment(ANATOMY_R1_TASK='{"bnak": "scenes"}')
    done = subprocess.run(command, env=settings, capture_output=True, text=True)
    assert done.returncode and "Traceback" not in done.stderr
    told = done.stderr[done.stderr.index("error:") :]
    assert "Did you mean 'bank'" in told and len(told.splitlines()) == 2


# OpenEnv's own validator.
def validate(*arguments):
    command = [sys.executable, "-m", "openenv.cli", "validate", *map(str, arguments)]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_folder_is_valid(client):
    assert "Verdict: PASS" in validate(FOLDER, "--level", "static")


def test_the_server_is_valid(server):
    said = validate("--url", server, "--timeout", 120)
    assert "Verdict: PASS" in said and "FAIL" not in said


@pytest.mark.filterwarnings("ignore:connect:DeprecationWarning")  # of websockets, for OpenEnv's own call
def test_the_folder_is_valid_while_it_runs(client):
    """Its level for running environments, with a process in the place of the container."""
    from openenv.validation import Level, run_validation
    from openenv.validation.types import ProviderCapability

    class Process:
        name, capabilities = "process", frozenset({ProviderCapability.IMAGE_BUILD})
        supported_network_modes = frozenset({"no-network"})

        def build(self, root, execution):
            assert (root / execution.dockerfile).is_file()
            return "sha256:" + "0" * 64

        def start(self, spec):
            self.open = contextlib.ExitStack()
            self.base_url = self.open.enter_context(served(curriculum="asc"))
            return self

        def inspect(self):
            return {}

        def stop(self):
            self.open.close()

    report = run_validation(FOLDER, max_level=Level.RUNTIME, provider=Process())
    if any("exceeded its time budget" in line for result in report.results for line in result.evidence):
        pytest.skip("OpenEnv gives its check of the schema five seconds, and this machine is too busy")
    found = {result.check_id: result.status.value for result in report.results}
    passed = ("startup", "reward_well_formed", "observation_schema", "state_contract")
    assert {"static.manifest", *(f"runtime.{name}" for name in passed)} == {n for n in found if found[n] == "pass"}
    assert set(found.values()) == {"pass", "skip"}, report.results


def test_the_container_file_starts_what_is_tested_here():
    (command,) = re.findall(r"^CMD (.*)$", (FOLDER / "Dockerfile").read_text(), re.MULTILINE)
    assert json.loads(command)[:2] == ["uvicorn", "server.app:app"]


@pytest.mark.parametrize(
    "found, expected", [("0.9.0", "needs openenv 0.10 or newer, found 0.9.0"), (None, "not installed")]
)
@pytest.mark.parametrize("modules", [("openenv_client", "openenv_server"), ("openenv_server", "openenv_client")])
def test_a_missing_or_older_openenv_is_told(refused_with, modules, found, expected):
    told = refused_with(found, *modules)
    assert expected in told and len(told.splitlines()) <= 2
