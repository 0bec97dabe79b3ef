"""Against a real local endpoint that answers well, wrongly, slowly, or not at all."""

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from anatomy_r1.core import AnatomyError
from anatomy_r1.curricula import make_augmentation
from anatomy_r1.curricula.edits.paraphrase import PAUSE, Paraphrase, check_paraphrase

STEM = "Which organ above the liver is shown in this 2 cm CT slice?"
GOOD = "In this CT slice of 2 cm, which organ above the liver can be seen?"


class Endpoint:
    """Answers with ``content`` unless ``mode`` says otherwise; remembers requests."""

    def __init__(self):
        self.content, self.mode, self.requests = GOOD, "fine", []
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                endpoint.requests.append((self.path, dict(self.headers), body))
                if endpoint.mode == "slow":
                    time.sleep(1.0)
                self.send_response(500 if endpoint.mode == "broken" else 200)
                self.end_headers()
                answer = {"choices": [{"message": {"content": endpoint.content}}]}
                answers = {"torn": b'{"choices": [', "empty": b'{"choices": []}', "null": b"null"}
                self.wfile.write(answers.get(endpoint.mode, json.dumps(answer).encode()))

            def log_message(self, *args): ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.spec = f"model@http://127.0.0.1:{self.server.server_port}/v1"


@pytest.fixture
def endpoint():
    found = Endpoint()
    yield found
    found.server.shutdown()
    found.server.server_close()


@pytest.fixture
def question(make_question):
    return make_question(["spleen", "stomach"], stem=STEM)


def stems(edit, question, count=20):
    results = [edit.apply(question, np.random.default_rng(seed)) for seed in range(count)]
    return {result[0].stem if result else question.stem for result in results}


def rows(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_good_paraphrases_are_used_and_kept(endpoint, question, tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "secret-key")
    edit = Paraphrase(endpoint.spec, folder=tmp_path)
    assert stems(edit, question) == {STEM, GOOD}
    ((path, headers, body),) = endpoint.requests
    assert path == "/v1/chat/completions" and body["model"] == "model" and STEM in body["messages"][0]["content"]
    assert headers["Authorization"] == "Bearer secret-key"
    again = Paraphrase(endpoint.spec, folder=tmp_path)
    assert stems(again, question) == {STEM, GOOD}
    assert len(endpoint.requests) == 1 and again.counts["asked"] == 0
    assert "secret-key" not in "".join(path.read_text() for path in tmp_path.iterdir())


def test_lists_are_taken_apart_and_bad_ones_are_refused_and_logged(endpoint, question, tmp_path):
    bad = "Which organ below the liver is shown in this 2 cm CT slice?"
    endpoint.content = f'1. {GOOD}\n- "{bad}"\n\n{STEM}\n'
    edit = Paraphrase(endpoint.spec, folder=tmp_path)
    assert stems(edit, question) == {STEM, GOOD}
    logged = {row["paraphrase"]: row["reason"] for row in rows(tmp_path / "refused.jsonl")}
    assert logged == {bad: "words of side or place differ", STEM: "nothing changed"}
    assert edit.counts["refused"] == 2


@pytest.mark.parametrize("mode", ["broken", "torn", "empty", "null", "slow", "gone"])
def test_an_endpoint_that_is_down_is_counted_and_the_grammar_steps_in(endpoint, make_question, tmp_path, mode):
    edit = Paraphrase(endpoint.spec, folder=tmp_path, timeout=0.3)
    endpoint.mode = mode
    if mode == "gone":
        endpoint.server.shutdown()
        endpoint.server.server_close()
    question = make_question(["liver", "gut"], stem="What is the top-left thing?")
    rewritten = "There is a top-left thing, what is its name?"
    assert stems(edit, question, 30) == {question.stem, rewritten}
    assert edit.counts["unreachable"] == 30
    assert len(endpoint.requests) <= 1  # it is left alone for a while
    assert not (tmp_path / "paraphrases.jsonl").exists()


def test_it_is_asked_again_when_it_may_be_back(endpoint, question, tmp_path):
    edit = Paraphrase(endpoint.spec, folder=tmp_path)
    endpoint.mode = "broken"
    assert stems(edit, question, PAUSE + 1) == {STEM}
    endpoint.mode = "fine"
    assert stems(edit, question) == {STEM, GOOD}


def test_a_cache_torn_by_a_kill_is_read_up_to_the_tear(endpoint, question, tmp_path):
    stems(Paraphrase(endpoint.spec, folder=tmp_path), question)
    with (tmp_path / "paraphrases.jsonl").open("a") as file:
        file.write('{"key": "ab')
    assert stems(Paraphrase(endpoint.spec, folder=tmp_path), question) == {STEM, GOOD}
    assert len(endpoint.requests) == 1


def test_groups_go_on_while_it_is_down(endpoint, make_bank, make_question, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    endpoint.mode = "broken"
    gdqa = make_augmentation("gdqa", make_bank(), trigger="always", edits=f"llm:{endpoint.spec},permute")
    variants = gdqa.vary(make_question(["a", "b", "c", "d"], stem="Which organ?"), 8, 0)
    assert len({variant.question.options for variant in variants}) == 4
    assert gdqa.counts["llm: unreachable"] >= 3


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (GOOD, ""),
        (STEM, "nothing changed"),
        ("", "empty"),
        ("Which organ above the liver is shown in this 3 cm CT slice?", "numbers"),
        ("Which organ not above the liver is shown in this 2 cm CT slice?", "negations"),
        ("Which organ isn't above the liver in this 2 cm CT slice?", "negations"),
        ("Which organ above the left liver is shown in this 2 cm CT slice?", "side or place"),
        ("Which red organ above the liver is shown in this 2 cm CT slice?", "colours"),
        ("Which organ above the liver is shown in this 2 cm MRI slice?", "modalities"),
        ("Which organ above it is shown in this 2 cm CT slice?", r"anatomy differs \('liver'\)"),
        (
            "Which organ, perhaps the spleen, above the liver, is in this 2 cm CT slice?",
            r"anatomy differs \('spleen'\)",
        ),
        ("Name the organ above the liver that is shown in this 2 cm CT slice.", "one asks"),
        ("Which organ above the liver is in this 2 cm CT slice? <answer>spleen</answer>", "markup"),
        ("Which organ above the liver is in this 2 cm CT slice?" + " really" * 40, "longer"),
    ],
)
def test_the_structural_check(text, reason):
    import re

    found = check_paraphrase(STEM, text, ["liver", "spleen"])
    assert re.search(reason, found) if reason else found == ""


@pytest.mark.parametrize("spec", ["model", "@http://x", "model@ftp://x", "model@"])
def test_a_spec_that_names_no_endpoint_is_refused(spec):
    with pytest.raises(AnatomyError, match="expected MODEL@URL"):
        Paraphrase(spec)
