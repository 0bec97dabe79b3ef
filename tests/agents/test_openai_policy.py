import asyncio
import base64
import io
import json
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from anatomy_r1.agents import make_policy
from anatomy_r1.banks import open_bank
from anatomy_r1.core import AnatomyError, render_prompt
from anatomy_r1.evaluation import evaluate, read_rollouts

openai = pytest.importorskip("openai")
KEY = "sk-very-secret-0123456789"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        server = self.server
        with server.lock:
            server.requests.append((time.monotonic(), self.headers.get("Authorization"), body))
            server.under_way += 1
            server.most = max(server.most, server.under_way)
            prompt = next(part["text"] for part in body["messages"][0]["content"] if part["type"] == "text")
            number = server.tries[prompt]
            server.tries[prompt] += 1
        try:
            server.act(self, body, prompt, number)
        except (BrokenPipeError, ConnectionResetError):
            pass
        finally:
            with server.lock:
                server.under_way -= 1

    def reply(self, status=200, text="<think>I look.</think><answer>A</answer>", headers=(), finish="stop", **message):
        usage = {"prompt_tokens": 100, "completion_tokens": 7, "total_tokens": 107}
        choice = {"index": 0, "finish_reason": finish, "message": {"role": "assistant", "content": text, **message}}
        body = {"id": "x", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], "usage": usage}
        if status != 200:
            body = {"error": {"message": text, "type": "server_error"}}
        self.send(json.dumps(body).encode(), status, headers)

    def send(self, data, status=200, headers=(), length=None):
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data) if length is None else length))
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)
        self.wfile.flush()

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    request_queue_size = 64


@pytest.fixture
def server():
    made = Server(("127.0.0.1", 0), Handler)
    made.daemon_threads = True
    made.lock, made.requests, made.tries, made.under_way, made.most = threading.Lock(), [], Counter(), 0, 0
    made.act = lambda handler, body, prompt, number: handler.reply()
    threading.Thread(target=made.serve_forever, args=(0.01,), daemon=True).start()
    yield made
    made.shutdown()
    made.server_close()


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr("anatomy_r1.agents.policies.openai.FIRST_WAIT", 0.02)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


def policy_of(server, **options):
    return make_policy(f"openai:tiny-vlm@http://127.0.0.1:{server.server_address[1]}/v1", **options)


def observations(count=1, edge=8):
    return {
        "image": [np.full((edge, edge, 3), 8 * k, np.uint8) for k in range(count)],
        "prompt": [f"Question: number {k}?\nA. liver\nB. gut" for k in range(count)],
    }


def test_a_request_holds_the_image_as_data_the_prompt_and_the_settings(server):
    said = policy_of(server, temperature=0.7, max_tokens=50, seed=3).respond(observations(2), n=2)
    assert [one.text for one in said] == ["<think>I look.</think><answer>A</answer>"] * 4
    _, authorization, body = server.requests[0]
    assert authorization == f"Bearer {KEY}"
    assert (body["model"], body["temperature"], body["max_tokens"]) == ("tiny-vlm", 0.7, 50)
    picture, text = body["messages"][0]["content"]
    kind, _, data = picture["image_url"]["url"].partition(",")
    assert kind == "data:image/png;base64"
    with Image.open(io.BytesIO(base64.b64decode(data))) as image:
        number = int(text["text"].split()[2].rstrip("?"))
        assert image.size == (8, 8) and image.getpixel((0, 0))[0] == 8 * number
    assert len({(body["seed"]) for _, _, body in server.requests}) == 4


def test_responses_come_in_order_whatever_order_they_are_served_in(server):
    def act(handler, body, prompt, number):
        place = int(prompt.split()[2].rstrip("?"))
        time.sleep(0.03 * (5 - place))
        handler.reply(text=f"answer {place}")

    server.act = act
    assert [one.text for one in policy_of(server).respond(observations(5))] == [f"answer {k}" for k in range(5)]


def test_a_misbehaving_server_loses_nothing_and_doubles_nothing(server, tmp_path):
    """3 requests in 10 fail, in every way; some questions never succeed."""
    part = open_bank("scenes", "test")
    rng, lock = np.random.default_rng(0), threading.Lock()
    did = Counter()

    def act(handler, body, prompt, number):
        with lock:
            how = int(rng.integers(20))
        letter = "ABCD"[len(prompt) % 4]
        text = f"<think>I look.</think><answer>{letter}</answer>"
        if is_cursed(prompt):
            handler.reply(500, "always broken")
        elif how == 0:
            handler.reply(500, "internal error")
        elif how == 1:
            handler.reply(429, "slow down", headers=[("Retry-After", "0.05")])
        elif how == 2:
            handler.send(b'{"id": "x", "choices": [{"mess')
        elif how == 3:
            handler.send(b'{"id": "x", "choi', length=4000)
            handler.close_connection = True
        elif how == 4:
            time.sleep(0.8)
            handler.reply(text=text)
        elif how == 5:
            slow_stream(handler)
        else:
            did["fine"] += 1
            handler.reply(text=text)
            return
        did["failed"] += 1

    server.act = act
    policy = policy_of(server, timeout=0.4, retries=5, concurrency=6, prompt_price=1000.0, completion_price=2000.0)
    results = evaluate(
        policy, "scenes", limit=60, n=2, out=tmp_path, batch_size=16, baselines=(), controls=(), gallery=2
    )
    rollouts = read_rollouts(tmp_path)
    assert Counter((one.question_id, one.sample) for one in rollouts) == {
        (name, sample): 1 for name in {one.question_id for one in rollouts} for sample in (0, 1)
    }
    assert len(rollouts) == results.responses == 120 and results.n == 60
    failed = [one for one in rollouts if one.failed]
    assert 0 < len(failed) == results.failed < 40
    for one in rollouts:
        question = part.question(part.index_of(one.question_id))
        assert bool(one.failed) == is_cursed(render_prompt(question)), one.failed
    assert all(one.failed.endswith(", after 6 tries") for one in failed)
    assert any(one.failed.startswith("status 500: ") and "always broken" in one.failed for one in failed)
    assert {one.text for one in rollouts if not one.failed} <= {
        f"<think>I look.</think><answer>{x}</answer>" for x in "ABCD"
    }
    assert did["failed"] >= 30
    answered = 120 - len(failed)
    assert results.usage == {
        "prompt_tokens": 100.0 * answered,
        "completion_tokens": 7.0 * answered,
        "cost": pytest.approx(answered * (0.1 + 0.014)),
    }
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or KEY.encode() not in path.read_bytes()


def is_cursed(prompt):
    return sum(prompt.encode()) % 9 == 0


def test_once_the_server_is_well_a_resumed_run_gets_what_it_missed(server, tmp_path):
    ill = True

    def act(handler, body, prompt, number):
        if ill and is_cursed(prompt):
            return handler.reply(500, "always broken") if number % 2 else slow_stream(handler)
        handler.reply(text=f"<think>I look.</think><answer>{'ABCD'[len(prompt) % 4]}</answer>")

    def run(policy, **options):
        known = {"limit": 40, "n": 2, "out": tmp_path, "baselines": (), "controls": ("blank",), "gallery": 0}
        return evaluate(policy, "scenes", **known | options)

    server.act = act
    assert run(policy_of(server, timeout=0.3, retries=1, concurrency=8)).failed > 0
    before = [one for one in read_rollouts(tmp_path) if not one.failed]
    server.requests.clear()
    ill = False
    policy = policy_of(server, concurrency=8)
    results, after = run(policy, resume=True), read_rollouts(tmp_path)
    assert results.failed == 0 and results.responses == len(after) == 80
    assert set(Counter((one.question_id, one.sample) for one in after).values()) == {1}
    assert [one for one in after if one in before] == before
    assert all(is_cursed(body["messages"][0]["content"][1]["text"]) for _, _, body in server.requests)
    server.requests.clear()
    assert run(policy, resume=True) == results and not server.requests


def slow_stream(handler):
    """Each byte comes in time, the whole never."""
    handler.send_response(200)
    handler.send_header("Content-Type", "application/json")
    handler.send_header("Content-Length", "500")
    handler.end_headers()
    for _ in range(400):
        handler.wfile.write(b" ")
        handler.wfile.flush()
        time.sleep(0.05)


def test_a_slow_stream_ends_at_the_time_out(server):
    server.act = lambda handler, body, prompt, number: slow_stream(handler)
    started = time.monotonic()
    (said,) = policy_of(server, timeout=0.3, retries=0).respond(observations())
    assert said.failed == "no answer within 0.3 s, after 1 tries" and time.monotonic() - started < 15


def test_retry_after_is_honoured(server):
    def act(handler, body, prompt, number):
        if number == 0:
            handler.reply(429, "slow down", headers=[("Retry-After", "0.6")])
        else:
            handler.reply()

    server.act = act
    assert policy_of(server).respond(observations())[0].failed is None
    (first, _, _), (second, _, _) = server.requests
    assert second - first > 0.58


def test_waits_grow_and_differ(server, monkeypatch):
    monkeypatch.setattr("anatomy_r1.agents.policies.openai.FIRST_WAIT", 0.02)
    asked, sleep = [], asyncio.sleep

    def noted(seconds):
        asked.append(seconds)
        return sleep(seconds)

    monkeypatch.setattr("anatomy_r1.agents.policies.openai.asyncio.sleep", noted)
    server.act = lambda handler, body, prompt, number: handler.reply(503, "busy")
    policy_of(server, retries=3, concurrency=1).respond(observations(30))
    waits = np.array(asked).reshape(30, 3)
    assert (waits <= [0.02, 0.04, 0.08]).all() and (waits.max(0) > [0.01, 0.02, 0.04]).all()
    assert len(np.unique(waits)) == waits.size


def test_no_more_requests_are_under_way_than_allowed(server):
    def act(handler, body, prompt, number):
        time.sleep(0.05)
        handler.reply()

    server.act = act
    policy_of(server, concurrency=3).respond(observations(12))
    assert server.most == 3


def test_the_rate_is_kept(server):
    policy_of(server, requests_per_minute=1200).respond(observations(7))
    times = sorted(at for at, _, _ in server.requests)
    assert times[-1] - times[0] > 0.25


@pytest.mark.parametrize(("status", "words"), [(401, "does not accept the key"), (404, "does not know the model")])
def test_a_refused_key_or_model_stops_the_run_and_the_key_stays_secret(server, status, words):
    server.act = lambda handler, body, prompt, number: handler.reply(status, f"Incorrect key: {KEY}")
    with pytest.raises(AnatomyError, match=words) as caught:
        policy_of(server).respond(observations(5))
    assert KEY not in str(caught.value) and "***" in str(caught.value)
    assert len(server.requests) <= 5


def test_a_question_that_is_refused_fails_at_once_and_alone(server):
    def act(handler, body, prompt, number):
        if "number 1" in prompt:
            handler.reply(400, "context too long")
        else:
            handler.reply()

    server.act = act
    said = policy_of(server).respond(observations(3))
    assert [one.failed is None for one in said] == [True, False, True]
    assert "status 400" in said[1].failed and "context too long" in said[1].failed
    assert len(server.requests) == 3


def test_cut_off_filtered_and_separate_thoughts(server):
    replies = [
        {"finish": "length", "text": "<think>long"},
        {"finish": "content_filter", "text": ""},
        {"text": "<answer>B</answer>", "reasoning_content": "I see."},
        {"text": None},
    ]
    server.act = lambda handler, body, prompt, number: handler.reply(**replies[int(prompt.split()[2].rstrip("?"))])
    cut, filtered, thought, empty = policy_of(server).respond(observations(4))
    assert cut.truncated and cut.text == "<think>long"
    assert filtered.failed == "the endpoint's content filter stopped it"
    assert thought.text == "<think>I see.</think><answer>B</answer>"
    assert (empty.text, empty.failed) == ("", None)


def test_large_images_are_shrunk(server):
    policy_of(server, max_edge=16).respond(observations(1, edge=64))
    data = server.requests[0][2]["messages"][0]["content"][0]["image_url"]["url"].partition(",")[2]
    with Image.open(io.BytesIO(base64.b64decode(data))) as image:
        assert image.size == (16, 16)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("openai:@http://x/v1", "expected MODEL@BASE_URL"),
        ("openai:m@ftp://x", "expected MODEL@BASE_URL"),
        ("openai:m@http://user:secret@host/v1", "must not hold a key"),
        ("openai:m@http://host/v1?key=secret", "must not hold a key"),
    ],
)
def test_specs_that_can_not_be_used(spec, words):
    with pytest.raises(AnatomyError, match=words) as caught:
        make_policy(spec)
    assert "secret" not in str(caught.value)


def test_an_endpoint_that_is_not_there_is_a_failure_with_its_reason():
    (said,) = make_policy("openai:m@http://127.0.0.1:9/v1", retries=1).respond(observations())
    assert said.failed.startswith("APIConnectionError") and "after 2 tries" in said.failed


def test_it_works_within_an_event_loop(server):
    import asyncio

    async def within():
        return policy_of(server).respond(observations(2))

    assert len(asyncio.run(within())) == 2


def test_what_it_says_of_itself_holds_no_key(server, tmp_path):
    bank = open_bank("scenes")
    results = evaluate(policy_of(server), bank, limit=2, out=tmp_path / "run", baselines=(), controls=())
    assert results.environment["policy"]["backend"] == "openai" and results.environment["policy"]["max_edge"] == 1024
    assert all(KEY not in path.read_text() for path in Path(tmp_path / "run").glob("*.json*"))
