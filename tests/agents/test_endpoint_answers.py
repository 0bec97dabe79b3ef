"""Endpoints that are OpenAI-compatible in their own way: every shape of answer, error and refusal, over real HTTP."""

import json
import socket
import threading
import warnings
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import gymnasium
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import anatomy_r1.envs  # noqa: F401
from anatomy_r1.agents import make_policy
from anatomy_r1.agents.policies.chat_answers import NoAnswer, read_answer, words_of
from anatomy_r1.core import AnatomyError
from anatomy_r1.evaluation import evaluate

pytest.importorskip("openai")
KEY = "sk-very-secret-0123456789"
OK = "<think>seen</think><answer>A</answer>"


def chat(finish="stop", choice=(), **message):
    row = {"index": 0, "finish_reason": finish, "message": {"role": "assistant", **message}, **dict(choice)}
    return {"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": [row]}


@pytest.fixture
def endpoint(monkeypatch):
    """Serves whatever ``answer(body) -> (status, reply)`` gives; keeps the requests."""
    monkeypatch.setattr("anatomy_r1.agents.policies.openai.FIRST_WAIT", 0.01)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with http.lock:
                http.requests.append(body)
            status, reply = http.answer(body)
            data = reply if isinstance(reply, bytes) else json.dumps(reply).encode()
            self.send_response(status)
            self.send_header("Content-Type", "text/html" if isinstance(reply, bytes) else "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_):
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.daemon_threads, http.lock, http.requests = True, threading.Lock(), []
    http.answer = lambda body: (200, chat(content=OK))
    http.policy = lambda **options: make_policy(
        f"openai:m@http://127.0.0.1:{http.server_port}/v1", **{"retries": 1, "timeout": 20, **options}
    )
    threading.Thread(target=http.serve_forever, args=(0.01,), daemon=True).start()
    yield http
    http.shutdown()
    http.server_close()


def observations(count=1):
    return {
        "image": [np.zeros((8, 8, 3), np.uint8)] * count,
        "prompt": [f"Question: number {k}?\nA. liver\nB. gut" for k in range(count)],
    }


THOUGHT = [{"type": "thinking", "thinking": [{"type": "text", "text": "seen"}]}]
SAID = [{"type": "text", "text": "<answer>A</answer>"}]
SHAPES = {
    "plain": chat(content=OK),
    "text parts": chat(content=[{"type": "text", "text": "<think>seen</think>"}, *SAID]),
    "thinking parts": chat(content=THOUGHT + SAID),
    "parts that are texts": chat(content=["<think>seen</think>", "<answer>A</answer>"]),
    "separate thought": chat(content="<answer>A</answer>", reasoning_content="seen"),
    "separate thought, another name": chat(content="<answer>A</answer>", reasoning="seen"),
    "details of a thought": chat(content="<answer>A</answer>", reasoning_details=[{"type": "r", "text": "seen"}]),
    "thought given twice": chat(content=OK, reasoning_content="seen"),
    "tags in the separate thought": chat(content="<answer>A</answer>", reasoning_content="<think>seen</think>"),
    "opened in the prompt": chat(content="seen</think><answer>A</answer>"),
    "a courtesy after the end": chat(content=OK + " Hope this helps!"),
    "stopped, the stop left out": chat(content="<think>seen</think><answer>A"),
    "stopped, and said why": chat(content="<think>seen</think><answer>A", choice={"stop_reason": "</answer>"}),
    "a text completion": {"choices": [{"index": 0, "text": OK, "finish_reason": "stop"}]},
    "no usage": {**chat(content=OK), "usage": None},
}


@pytest.mark.parametrize("reply", SHAPES.values(), ids=SHAPES.keys())
def test_an_answer_of_any_shape_is_read(endpoint, reply):
    endpoint.answer = lambda body: (200, reply)
    (said,) = endpoint.policy().respond(observations())
    assert (said.text, said.failed, said.truncated) == (OK, None, False)
    assert len(endpoint.requests) == 1 and endpoint.requests[0]["stop"] == ["</answer>"]


@pytest.mark.parametrize(
    ("reply", "text", "truncated"),
    [
        (chat(content="I look. <answer>A"), "I look. <answer>A</answer>", False),
        (chat("length", content="<think>seen</think><answer>A"), "<think>seen</think><answer>A", True),
        (chat(content="<answer>A", choice={"stop_reason": None}), "<answer>A", False),
        (chat("length", content=None, reasoning_content="I look. <answer>A"), "<think>I look. <answer>A", True),
        (chat(content="<think>x</answer></think><answer>A"), "<think>x</answer></think><answer>A</answer>", False),
        (chat(content=None), "", False),
        (chat(content=""), "", False),
    ],
)
def test_nothing_is_made_better_than_it_was(endpoint, reply, text, truncated):
    endpoint.answer = lambda body: (200, reply)
    (said,) = endpoint.policy().respond(observations())
    assert (said.text, said.failed, said.truncated) == (text, None, truncated)


PAGE = b"<!DOCTYPE html><html><style>p {}</style><body><h1>gateway login</h1></body></html>"
FAULTS = {
    "null choices": (200, {"choices": None, "error": {"code": 429, "message": "rate limited"}}, "rate limited", 2),
    "an error for an answer": (200, {"error": {"code": 402, "message": "Insufficient credits"}}, "Insufficient cr", 1),
    "an error as a text": (200, {"error": "out of memory"}, "out of memory", 1),
    "an error in the choice": (200, chat(choice={"error": {"code": 502, "message": "upstream"}}), "upstream", 2),
    "no choices": (200, {"id": "1", "choices": []}, "no choice", 2),
    "a web page": (200, PAGE, "a web page, not JSON ('gateway login'); is the base URL right?", 1),
    "a web page as an error": (502, PAGE, "status 502: gateway login", 2),
    "a list": (200, [1], "no answer, but '[1]'", 2),
    "a refusal": (200, chat(content=None, refusal="I can't help."), "the model refused: I can't help.", 1),
    "a refusal in parts": (200, chat(content=[{"type": "refusal", "refusal": "No."}]), "the model refused: No.", 1),
    "a filter": (200, chat("content_filter", content=""), "content filter", 1),
    "too large": (413, {"error": {"message": "Request Entity Too Large"}}, "status 413: Request Entity Too Large", 1),
    "context": (400, {"error": {"message": "maximum context length is 2048"}}, "maximum context length is 2048", 1),
    "max_tokens too large": (400, {"message": "max_tokens is too large: 1024"}, "max_tokens is too large", 1),
    "a detail": (422, {"detail": [{"msg": "image is broken"}]}, "image is broken", 1),
    "escape codes": (400, {"error": {"message": "\x1b[31mred\x07"}}, "status 400: [31mred", 1),
    "the key": (400, {"error": {"message": f"no {KEY}"}}, "no ***", 1),
}


@pytest.mark.parametrize(("status", "reply", "words", "tries"), FAULTS.values(), ids=FAULTS.keys())
def test_what_went_wrong_is_told_in_the_endpoints_own_words(endpoint, status, reply, words, tries):
    endpoint.answer = lambda body: (status, reply)
    (said,) = endpoint.policy().respond(observations())
    assert said.text == "" and words in said.failed and said.failed.isprintable() and KEY not in said.failed
    assert len(endpoint.requests) == tries and ("after 2 tries" in said.failed) == (tries == 2)


def test_an_unaccepted_key_in_the_place_of_an_answer_stops_the_run(endpoint):
    endpoint.answer = lambda body: (200, {"error": {"code": 401, "message": f"bad key {KEY}"}})
    with pytest.raises(AnatomyError, match=r"does not accept the key \(status 401: .*bad key \*\*\*\)"):
        endpoint.policy().respond(observations(3))


@pytest.mark.parametrize(
    ("names", "status", "reply", "left", "notice"),
    [
        (
            ["seed"],
            422,
            {"message": {"detail": [{"type": "extra_forbidden", "loc": ["body", "seed"]}]}},
            {"temperature", "max_tokens", "stop"},
            "seed is left out",
        ),
        (
            ["seed", "max_tokens", "temperature"],
            400,
            {"error": {"message": "Unsupported: ['seed', 'max_tokens', 'temperature']. Use max_completion_tokens."}},
            {"max_completion_tokens", "stop"},
            "temperature is left out, max_tokens goes as max_completion_tokens",
        ),
        (
            ["temperature"],
            400,
            {"error": {"message": "'temperature' does not support 0.0. Only the default (1)."}},
            {"seed", "max_tokens", "stop"},
            "temperature is left out",
        ),
        (
            ["stop"],
            400,
            {"error": {"message": "Unsupported parameter: 'stop' is not supported with this model."}},
            {"seed", "max_tokens", "temperature"},
            "stop is left out",
        ),
        (
            ["max_tokens", "max_completion_tokens"],
            400,
            {"error": "unknown field max_tokens, max_completion_tokens"},
            {"seed", "temperature", "stop"},
            "max_tokens goes as max_completion_tokens",
        ),
    ],
)
def test_a_refused_parameter_is_left_out_or_renamed_with_one_notice(endpoint, names, status, reply, left, notice):
    endpoint.answer = lambda body: (status, reply) if set(names) & body.keys() else (200, chat(content=OK))
    policy = endpoint.policy(concurrency=3)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        said = policy.respond(observations(6), n=2)
        again = policy.respond(observations(6), n=2)
    assert {one.text for one in said + again} == {OK} and not any(one.failed for one in said + again)
    assert sum(notice in str(one.message) for one in told) == 1
    assert len(told) == (2 if len(names) == 2 and names[0] == "max_tokens" else 1)
    assert set(endpoint.requests[-1]) - {"model", "messages"} == left
    assert all(not set(names) & body.keys() for body in endpoint.requests[-12:])
    assert set(policy.describe()["left_out"]) == set(names)


def test_none_leaves_a_parameter_out_and_extra_sends_more(endpoint):
    options = {"seed": None, "temperature": None, "max_tokens": None, "top_p": 0.9, "extra": {"top_k": 5}}
    endpoint.policy(**options).respond(observations(), n=2)
    as_typed = dict.fromkeys(("seed", "temperature", "max_tokens"), "None")
    endpoint.policy(**as_typed, top_p=0.9, extra='{"top_k": 5}').respond(observations())
    for body in endpoint.requests:
        assert set(body) == {"model", "messages", "stop", "top_p", "top_k"}
        assert (body["top_p"], body["top_k"]) == (0.9, 5)


@pytest.mark.parametrize("extra", ["top_k", "[1]", "3"])
def test_extra_that_is_no_object_is_refused(endpoint, extra):
    with pytest.raises(AnatomyError, match="openai: extra"):
        endpoint.policy(extra=extra)


def test_the_places_of_a_group_have_seeds_of_their_own_and_the_same_ones_again(endpoint):
    env = gymnasium.make_vec(
        "anatomy_r1.envs:AnatomyVQA-v0",
        num_envs=8,
        vectorization_mode="vector_entry_point",
        group_size=4,
        bank="scenes",
    )
    shown, _ = env.reset(seed=3)
    seeds = []
    for _ in range(2):
        endpoint.requests.clear()
        endpoint.policy(concurrency=1, seed=5).respond(shown)
        seeds.append([body["seed"] for body in endpoint.requests])
    assert len(set(seeds[0])) == 8 and seeds[0] == seeds[1]
    endpoint.requests.clear()
    endpoint.policy(concurrency=1, seed=6).respond(shown)
    assert not {body["seed"] for body in endpoint.requests} & set(seeds[0])


def test_an_evaluations_seeds_depend_on_question_and_sample_alone(endpoint):
    asked = []
    for batch in (3, 7):
        endpoint.requests.clear()
        evaluate(endpoint.policy(), "scenes", limit=7, n=2, batch_size=batch, baselines=(), controls=())
        asked.append(sorted(body["seed"] for body in endpoint.requests))
    assert asked[0] == asked[1] and len(set(asked[0])) == 14


def test_an_unreachable_endpoint_is_given_up_after_two_tries_for_all_questions(monkeypatch):
    waits = []

    async def slept(seconds):
        waits.append(seconds)

    monkeypatch.setattr("anatomy_r1.agents.policies.openai.asyncio.sleep", slept)
    with socket.socket() as free:  # bound, not listening: connections are refused
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
        said = make_policy(f"openai:m@{address}", concurrency=2).respond(observations(20))
        assert all(f"{address} can't be reached" in one.failed for one in said) and len(waits) <= 2
        with pytest.raises(AnatomyError, match="can't be reached"):
            evaluate(make_policy(f"openai:m@{address}"), "scenes", limit=40, baselines=(), controls=(), fail_fast=True)


def test_an_endpoint_that_goes_away_later_is_waited_for(endpoint):
    policy = endpoint.policy(retries=4)
    assert policy.respond(observations())[0].failed is None
    endpoint.shutdown()
    endpoint.server_close()
    assert "after 5 tries" in policy.respond(observations())[0].failed


NAMES = [
    "choices",
    "message",
    "content",
    "error",
    "code",
    "text",
    "finish_reason",
    "refusal",
    "reasoning",
    "usage",
    "type",
]
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=4),
    max_leaves=12,
)


@given(values)
def test_no_reply_of_any_form_ends_in_a_surprise(body):
    assert words_of(body).isprintable()
    choices = [body, {"message": body}, {"message": {"content": body}}]
    for reply in (body, *({"choices": [choice]} for choice in choices)):
        try:
            assert isinstance(read_answer(json.dumps(reply), stops=True).text, str)
        except NoAnswer as error:
            assert str(error)
