"""For the tests of each adapter: the contract, and an endpoint."""

import importlib
import importlib.util
import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from zlib import crc32

import pytest

from anatomy_r1.agents import Response
from anatomy_r1.core import AnatomyError
from anatomy_r1.integrations import rows

spec = importlib.util.spec_from_file_location("contract", Path(__file__).with_name("contract.py"))
CONTRACT = importlib.util.module_from_spec(spec)
spec.loader.exec_module(CONTRACT)


@pytest.fixture(scope="session")
def contract():
    """The module beside this one."""
    return CONTRACT


@pytest.fixture
def refused_with(monkeypatch):
    """Imports modules of integrations where their package is of a version (None: missing); gives what is told."""

    def told(found, *modules):
        def version(name):
            if found is None:
                raise rows.PackageNotFoundError(name)
            return found

        for module in modules:
            monkeypatch.delitem(sys.modules, f"anatomy_r1.integrations.{module}", raising=False)
        monkeypatch.setattr(rows, "version", version)
        with pytest.raises(AnatomyError) as error:
            importlib.import_module(f"anatomy_r1.integrations.{modules[0]}")
        return str(error.value)

    return told


def said_to(prompt):
    """What the endpoint says: one of the contract's forms, the same to the same prompt."""
    form = CONTRACT.FORMS[crc32(prompt.encode()) % len(CONTRACT.FORMS)]
    return form.format(letter="A", wrong="B", option="liver")


class Sayer:
    """A policy that says what the endpoint says."""

    needs_controls = True

    def respond(self, observations, *, n=1):
        return [Response(said_to(prompt)) for prompt in observations["prompt"] for _ in range(n)]


@pytest.fixture
def sayer():
    return Sayer()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.requests.append(body)
        prompt = next(part["text"] for part in body["messages"][-1]["content"] if part["type"] == "text")
        message = {"role": "assistant", "content": said_to(prompt)}
        usage = {"prompt_tokens": 100, "completion_tokens": 7, "total_tokens": 107}
        choice = {"index": 0, "finish_reason": "stop", "message": message}
        said = {
            "id": "x",
            "object": "chat.completion",
            "created": 1,
            "model": "tiny",
            "choices": [choice],
            "usage": usage,
        }
        data = json.dumps(said).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


@pytest.fixture
def endpoint():
    """An OpenAI-compatible server; ``requests`` are the bodies it got."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads, server.requests = True, []
    server.address = f"http://127.0.0.1:{server.server_address[1]}/v1"
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()
