"""The ``hf`` bank by id: a small hub of our own serves one data set; the real one is never asked."""

import hashlib
import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from PIL import Image

from anatomy_r1.banks import open_bank
from anatomy_r1.core import AnatomyError

datasets = pytest.importorskip("datasets")
FILES = {"train.csv": b"figure,q,a,b,label\nx.png,Which organ?,liver,gut,B\nx.png,And this?,lung,bone,A\n"}
COMMIT = "a" * 40
CODE = """
import sys
from anatomy_r1.banks import open_bank
from anatomy_r1.core import AnatomyError
try:
    bank = open_bank("hf:me/" + sys.argv[1], columns="image=figure,stem=q,options=a|b,answer=label", images="images")
    print([(q.id, q.options, q.letter, q.pixels().shape) for q in map(bank.question, range(len(bank)))])
except AnatomyError as error:
    print("error:", error)
"""


class Hub(BaseHTTPRequestHandler):
    """What the ``datasets`` library asks of a hub: facts of a data set, its files, and 404 for the rest."""

    protocol_version = "HTTP/1.1"

    def answer(self):
        path = self.path.partition("?")[0]
        status, headers, body = 404, {"X-Error-Code": "EntryNotFound"}, b"{}"
        if path.startswith("/api/datasets/me/organs"):
            entries = [
                {"type": "file", "path": name, "size": len(data), "oid": tag(data)} for name, data in FILES.items()
            ]
            facts = {"id": "me/organs", "sha": COMMIT, "siblings": [{"rfilename": name} for name in FILES]}
            status, headers, body = 200, {}, json.dumps(entries if "/tree/" in path else facts).encode()
        elif path.startswith("/datasets/me/organs/") and (name := path.rpartition("/")[2]) in FILES:
            status, headers, body = 200, {"ETag": f'"{tag(FILES[name])}"'}, FILES[name]
        elif "organs" not in path:
            headers = {"X-Error-Code": "RepoNotFound"}
        self.send_response(status)
        for key, value in {**headers, "Content-Length": str(len(body)), "X-Repo-Commit": COMMIT}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_HEAD = answer

    def log_message(self, *_):
        pass


def tag(data):
    return hashlib.sha1(data).hexdigest()


@pytest.fixture
def ask(tmp_path):
    """Opens a data set of the hub in a process of its own, as addresses are read when the library is imported."""
    hub = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=hub.serve_forever, args=(0.01,), daemon=True).start()
    (tmp_path / "images").mkdir()
    Image.new("RGB", (9, 7)).save(tmp_path / "images/x.png")

    def ask(name, offline="0"):
        known = {"HF_ENDPOINT": f"http://127.0.0.1:{hub.server_address[1]}", "HF_HOME": str(tmp_path / "home")}
        command = [sys.executable, "-c", CODE, name]
        environment = {**os.environ, **known, "HF_HUB_OFFLINE": offline}
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    yield ask
    hub.shutdown()
    hub.server_close()


def test_a_data_set_of_the_hub_is_read_and_then_needs_no_network(ask):
    expected = "[('train/0', ('liver', 'gut'), 'B', (7, 9, 3)), ('train/1', ('lung', 'bone'), 'A', (7, 9, 3))]"
    assert "HF_HUB_OFFLINE is set; unset it, or give a folder instead" in ask("organs", offline="1")
    assert ask("organs") == ask("organs", offline="1") == expected
    assert ask("nothing").startswith("error: me/nothing: can't be opened as a Hugging Face data set (Dataset 'me/noth")


@pytest.mark.parametrize("path", ["", "./nope", "no/such folder", "../x", "/nowhere/at/all", "a/b/c", "http://x/y"])
def test_what_is_neither_folder_nor_id_is_not_looked_for(path):
    with pytest.raises(AnatomyError, match=r"neither a folder here nor an id of the hub \(OWNER/NAME\)"):
        open_bank(f"hf:{path}")
