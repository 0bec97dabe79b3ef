"""What the watch server does with requests and files that nobody meant well: it refuses them and goes on."""

import json
import os
import socket
import threading
import time
from contextlib import contextmanager, suppress

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from anatomy_r1.agents import make_policy
from anatomy_r1.banks import open_bank
from anatomy_r1.evaluation.live import BrowserPolicy, Person, Trial, watch_app, watch_server
from anatomy_r1.evaluation.live.following import POINTS, LiveRun

pytest.importorskip("uvicorn")
pytest.importorskip("starlette")
pytest.importorskip("jinja2")


@contextmanager
def serving(run, host="127.0.0.1", hosts=("127.0.0.1", "localhost", "::1")):
    bank = open_bank("scenes", "test")
    person = Person(BrowserPolicy(), 1)
    app = watch_app([run], Trial(make_policy("oracle", bank=bank), bank), person, hosts, pause=0.0)
    server = watch_server(app, host, 0)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    end = time.monotonic() + 120
    while not server.started:
        assert time.monotonic() < end and thread.is_alive(), "the server did not start"
        time.sleep(0.02)
    yield server.servers[0].sockets[0].getsockname()
    server.should_exit = True
    thread.join(20)


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    run = tmp_path_factory.mktemp("run")
    (run / "secret.json").write_text('{"secret": 1}')
    with serving(run) as found:
        yield found


def exchange(address, data, *, end=False):
    """All that comes back for some bytes; ``end``: none will follow, for what is no whole request."""
    with socket.create_connection(address[:2], 60) as wire:
        with suppress(OSError):  # it may have hung up before all was sent
            wire.sendall(data)
            if end:
                wire.shutdown(socket.SHUT_WR)
        found = b""
        with suppress(ConnectionError):
            while part := wire.recv(65536):
                found += part
        return found


def request(target, body=b"", *headers, method=None, host="127.0.0.1"):
    lines = [
        f"{method or ('POST' if body else 'GET')} {target} HTTP/1.1",
        f"Host: {host}",
        "Connection: close",
        *headers,
    ]
    if body and not any(line.lower().startswith(("content-length", "transfer")) for line in headers):
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1", "replace") + body


def status(answer):
    return int(answer.split(b" ", 2)[1]) if answer.startswith(b"HTTP/1.1 ") else None


def alive(address):
    return status(exchange(address, request("/"))) == 200


@pytest.mark.parametrize(
    "number", ["", "x", "-1", "1.5", "1e3", "٣", "²", "0x1", "1" * 17, "9" * 5000, "NaN", "%00", "1%0d%0aX:1"]
)
def test_a_number_that_is_none_is_refused(address, number):
    target = "/question?number=" + "".join(c if c.isascii() else f"%{ord(c) & 255:02x}" for c in number)
    assert status(exchange(address, request(target))) == 400


BODIES = [b"x", b"[]", b"{}", b"null", b"1", b'"number"', b"{", b"\xff\xfe", b"[" * 4000, b'{"number": null}']
BODIES += [f'{{"number": {value}, "choice": 0}}'.encode() for value in ("-1", "1.0", "true", "1e9", "NaN", '"x"', "{}")]
BODIES += [b'{"number": ' + b"9" * 4000 + b"}", b'{"number": 99999999999999999}']


@pytest.mark.parametrize("target", ["/respond", "/choice"])
@pytest.mark.parametrize("body", BODIES)
def test_a_body_that_is_none_is_refused(address, target, body):
    assert status(exchange(address, request(target, body))) == 400


@pytest.mark.parametrize("target", ["/respond", "/choice"])
def test_bodies_and_headers_are_bounded(address, target):
    assert status(exchange(address, request(target, b" " * 5000))) == 413
    assert status(exchange(address, request(target, bytes(20_000_000)))) in (413, None)  # hung up while we were sending
    lie = request(target, b"{}", "Content-Length: 1000000000")
    assert status(exchange(address, lie, end=True)) in (400, None)
    chunked = b"".join(b"1000\r\n" + bytes(4096) + b"\r\n" for _ in range(8)) + b"0\r\n\r\n"
    assert status(exchange(address, request(target, chunked, "Transfer-Encoding: chunked"))) == 413
    assert status(exchange(address, request("/", b"", "X: " + "y" * 200_000, method="GET"))) in (400, 431, None)
    assert status(exchange(address, request("/" + "y" * 200_000))) in (400, 414, 431, None)
    assert alive(address)


RAW = [
    b"",
    b"\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01",
    b"GET\r\n\r\n",
    b"GET / HTTP/9.9\r\n\r\n",
    b"GET / HTTP/1.1\r\n\r\n",
]
RAW += [b"G\xffT / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", b"\0" * 9000]
RAW += [
    b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n bad: 1\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"GET / HTTP/1.0\r\n\r\n",
]
RAW += [
    b"POST /respond HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: -1\r\n\r\n",
    b"GET /live HTTP/1.1\r\nHost: 127.0.0.1",
]
RAW += [b"POST /respond HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"]


@pytest.mark.parametrize("data", RAW)
def test_bytes_that_are_no_request_are_refused(address, data):
    assert status(exchange(address, data, end=True)) in (400, 405, 505, None)
    assert alive(address)


@pytest.mark.parametrize(
    ("host", "known"),
    [
        *[(name, True) for name in ("127.0.0.1", "127.0.0.1:8765", "LocalHost:80", "[::1]", "[::1]:8765")],
        *[(name, False) for name in ("evil.example", "127.0.0.1.evil.example", "127.0.0.1@evil.example", "", ":80")],
        *[(name, False) for name in ("::1", "[::1", "[::2]", "localhost:x", "localhost:80:80", "127.0.0.2", "0")],
    ],
)
def test_only_known_host_names_are_answered(address, host, known):
    assert status(exchange(address, request("/", host=host))) == (200 if known else 400)


@pytest.mark.parametrize(("host", "known"), [("192.168.0.7:80", True), ("[fe80::1]:80", True), ("evil.example", False)])
def test_where_all_may_come_addresses_are_answered_and_names_are_not(tmp_path, host, known):
    with serving(tmp_path, hosts=["*"]) as address:
        assert status(exchange(address, request("/", host=host))) == (200 if known else 400)


def test_the_loopback_of_ipv6_is_served(tmp_path):
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("there is no IPv6 here")
    with serving(tmp_path, host="::1") as address:
        assert status(exchange(address, request("/", host=f"[::1]:{address[1]}"))) == 200


SAFE = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
STARTS = ["/", "/live?", "/question?", "/question?number=", "/pending?", "/../", "/..%2f", "//"]
CHARACTERS = st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=60)


@SAFE
@given(
    st.sampled_from(["/", "/live?", "/question?", "/question?number=", "/pending?", "/../", "/..%2f", "//"]), CHARACTERS
)
def test_no_path_or_query_breaks_the_server_or_leaves_the_pages(address, start, rest):
    answer = exchange(address, request(start + rest))
    assert status(answer) in (200, 204, 307, 400, 404, 405) and b"secret" not in answer


@SAFE
@given(st.sampled_from(["/respond", "/choice"]), st.binary(min_size=1, max_size=200))
def test_no_body_breaks_the_server(address, target, body):
    assert status(exchange(address, request(target, body))) in (200, 400, 409)


SECRET = ["/../secret.json", "/..%2fsecret.json", "/%2e%2e/secret.json", "/secret.json", "//secret.json"]


@pytest.mark.parametrize("path", SECRET)
def test_files_of_the_run_are_not_served(address, path):
    answer = exchange(address, request(path))
    assert status(answer) == 404 and b'"secret"' not in answer


@pytest.mark.parametrize("name", ["metrics.jsonl", "groups.jsonl", "rollouts.jsonl"])
@pytest.mark.parametrize("kind", ["pipe", "device", "folder", "endless", "a long line"])
def test_what_is_no_log_is_told_on_the_page_and_waits_for_nothing(tmp_path, name, kind):
    path = tmp_path / name
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "folder":
        path.mkdir()
    else:
        with path.open("wb") as file:
            file.truncate(1 << 40 if kind == "endless" else 5 << 20)
            file.seek(0, os.SEEK_END)
            file.write(b"\n{}\n")
    began = LiveRun(tmp_path).html()[1]
    assert name in began and ("expected" in began or "too large" in began)


def test_a_picture_outside_the_run_is_not_shown(tmp_path):
    (tmp_path / "secret.png").write_bytes(b"secret")
    run = tmp_path / "run"
    run.mkdir()
    for image in ("../secret.png", "/etc/passwd", str(tmp_path / "secret.png")):
        row = {"step": 1, "structure": "liver", "similarity": None, "image": image, "responses": [{"reward": 1.0}]}
        (run / "groups.jsonl").write_text(json.dumps(row) + "\n")
        page = LiveRun(run).html()[1]
        assert "must be a PNG inside the folder" in page and "base64" not in page


def rows(first, last):
    return "".join(json.dumps({"step": step, "reward": step % 7 / 7}) + "\n" for step in range(first, last))


def test_a_long_run_is_thinned_and_read_once(tmp_path):
    path, run = tmp_path / "metrics.jsonl", LiveRun(tmp_path)
    path.write_text(rows(1, 3 * POINTS))
    short = len(run.html()[1])
    with path.open("a") as file:
        file.write(rows(3 * POINTS, 40 * POINTS))
    mark, page = run.html()
    assert "step 39,999" in page and len(page) < 3 * short and run.html() == (mark, page)
    with path.open("a") as file:
        file.write('{"step": 40000, "rew')
    assert "step 39,999" in run.html()[1]
    with path.open("a") as file:
        file.write('ard": 1.0}\n')
    assert "step 40,000" in run.html()[1]
    path.write_text(rows(1, 10))  # resumed from an earlier step
    assert "step 9<" in run.html()[1]


def test_a_picture_to_be_asked_about_is_sent_small(tmp_path):
    import numpy as np

    from anatomy_r1.evaluation.live.watch import EDGE, Asked, question_view

    view = question_view(Asked("Which?", ("a", "b"), np.zeros((3 * EDGE, 4 * EDGE, 3), np.uint8)))
    assert len(view["image"]) < 1_000_000
