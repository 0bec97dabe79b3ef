"""The side of vLLM that needs no vLLM: settings, versions, and a server that is late, gone or of the wrong kind."""

import json
import socket
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch.multiprocessing.reductions import StorageWeakRef

from anatomy_r1.agents import TINY_FOLDER, VllmSettings, make_policy
from anatomy_r1.agents.model import Backbone
from anatomy_r1.agents.policies import PolicyLost
from anatomy_r1.agents.policies.vllm import server
from anatomy_r1.agents.policies.vllm.policy import skeleton
from anatomy_r1.agents.policies.vllm.weights import CheckpointWeights, check_names, write_weights
from anatomy_r1.core import AnatomyError

sys.path.insert(0, str(Path(__file__).parent))
from adapted_models import DORA, LORA, stirred

IMAGE = np.zeros((96, 96, 3), np.uint8)
KNOWN = skeleton(TINY_FOLDER)
"""Loaded once: transformers can't load in several threads."""
OBSERVATIONS = {"image": [IMAGE, IMAGE], "prompt": ["Where is the liver?", "Where is the gut?"]}


@pytest.fixture(autouse=True)
def short_waits(monkeypatch):
    monkeypatch.setattr(server, "FIRST_WAIT", 0.001)


@pytest.fixture
def serve():
    """Start a server on loopback that answers with ``answer(path, body) -> (status, reply)``."""
    running = []

    def start(answer):
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or "null")
                status, reply = answer(self.path, body)
                content = json.dumps(reply).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_POST = do_GET

            def log_message(self, *arguments):
                pass

        http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        running.append(http)
        threading.Thread(target=http.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{http.server_port}"

    yield start
    for http in running:
        http.shutdown()
        http.server_close()


def like_vllm(path, body):
    if path == "/version":
        return 200, {"version": "0.32.0"}
    if path == "/v1/models":
        return 200, {"data": [{"id": "served"}]}
    if path != "/inference/v1/generate":
        return 200, {}
    known = KNOWN
    prompt = next(p for p in OBSERVATIONS["prompt"] if unexpanded(known, p) == body["token_ids"])
    expanded = known.encode(IMAGE, prompt).tokens.tolist()
    token = known.tokenizer.convert_tokens_to_ids("liver" if "liver" in prompt else "gut")
    choices = [
        {
            "index": i,
            "token_ids": [token],
            "finish_reason": "length",
            "logprobs": {"content": [{"token_id": token, "logprob": -0.5 - i}]},
        }
        for i in reversed(range(body["sampling_params"]["n"]))
    ]
    return 200, {"prompt_token_ids": expanded, "choices": choices}


def unexpanded(backbone, prompt):
    return backbone.tokenizer(backbone.encode.render(prompt))["input_ids"]


def test_a_server_is_asked_once_per_prompt_and_its_answers_are_put_in_place(serve):
    asked = []

    def answer(path, body):
        asked.append((path, body))
        return like_vllm(path, body)

    policy = make_policy(f"vllm:tiny@{serve(answer)}", temperature=1.0, seed=3)
    same = {name: [values[0], values[1], values[0]] for name, values in OBSERVATIONS.items()}
    responses = policy.respond(same, n=2)
    requests = [body for path, body in asked if path == "/inference/v1/generate"]
    assert sorted(body["sampling_params"]["n"] for body in requests) == [2, 4]
    assert [r.text.strip() for r in responses] == ["liver", "liver", "gut", "gut", "liver", "liver"]
    assert [r.logprobs for r in responses] == [(-0.5,), (-1.5,), (-0.5,), (-1.5,), (-2.5,), (-3.5,)]
    assert all(r.truncated for r in responses)
    sampling = requests[0]["sampling_params"]
    assert sampling["stop"] == ["</answer>"] and sampling["top_k"] == 0 and sampling["repetition_penalty"] == 1
    assert {int(token) for token in sampling["logit_bias"]} == set(policy.backbone.banned.tolist())
    assert len({body["sampling_params"]["seed"] for body in requests}) == 2


def test_only_some_places_are_answered_as_among_all(serve):
    seeds = []

    def answer(path, body):
        if body and "sampling_params" in body:
            seeds.append((body["token_ids"], body["sampling_params"]["seed"]))
        return like_vllm(path, body)

    url = serve(answer)
    whole = make_policy(f"vllm:tiny@{url}", temperature=1.0).respond(OBSERVATIONS)
    part = make_policy(f"vllm:tiny@{url}", temperature=1.0).respond(OBSERVATIONS, only=[1])
    assert part == whole[1:] and seeds[2] in seeds[:2]


def test_an_image_expanded_twice_is_found_at_the_first_call(serve):
    def twice(path, body):
        status, reply = like_vllm(path, body)
        image = KNOWN.model.config.image_token_id
        if "prompt_token_ids" in reply:
            reply["prompt_token_ids"] = [t for t in reply["prompt_token_ids"] for _ in range(1 + (t == image))]
        return status, reply

    with pytest.raises(AnatomyError, match=r"vLLM reads \d+ tokens .* the processor gives \d+; they must be equal"):
        make_policy(f"vllm:tiny@{serve(twice)}").respond(OBSERVATIONS)


def test_a_passing_failure_is_tried_again_and_a_lasting_one_ends_after_bounded_tries(serve):
    left, tries = [2], []

    def busy(path, body):
        if path == "/inference/v1/generate":
            tries.append(1)
            left[0] -= 1
            if left[0] >= 0:
                return 503, {"error": "busy"}
        return like_vllm(path, body)

    policy = make_policy(f"vllm:tiny@{serve(busy)}", concurrency=1, retries=3)
    assert len(policy.respond(OBSERVATIONS)) == 2 and len(tries) == 4
    left[0] = 10**6
    with pytest.raises(PolicyLost, match=r"status 503 .*busy.*, after 4 tries"):
        policy.respond(OBSERVATIONS)


def test_a_server_that_is_too_slow_is_given_up(serve):
    ended = threading.Event()

    def slow(path, body):
        if path == "/inference/v1/generate":
            ended.wait(30)
        return like_vllm(path, body)

    policy = make_policy(f"vllm:tiny@{serve(slow)}", timeout=0.2, retries=1)
    with pytest.raises(PolicyLost, match=r"no answer within 0.2 s, after 2 tries"):
        policy.respond(OBSERVATIONS)
    ended.set()


def test_a_server_that_is_not_there_is_named_with_its_address():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(AnatomyError, match=rf"{address}/version: can't be reached \(.*refused.*\), after 3 tries"):
        make_policy(f"vllm:tiny@{address}", retries=2)


def test_a_server_of_another_version_and_one_without_the_endpoints_are_refused(serve):
    def old(path, body):
        return 200, {"version": "0.20.1"}

    with pytest.raises(AnatomyError, match=r"expected vLLM 0.32 or 0.33, got 0.20.1 \(the server http"):
        make_policy(f"vllm:tiny@{serve(old)}")

    def closed(path, body):
        return like_vllm(path, body) if path in ("/version", "/v1/models") else (403, {"error": "disabled"})

    with pytest.raises(AnatomyError, match=r"refuses /inference/v1/generate; start it with\nVLLM_SERVER_DEV_MODE=1 "):
        make_policy(f"vllm:tiny@{serve(closed)}").respond(OBSERVATIONS)


def test_new_weights_are_written_where_the_server_reads_them_before_it_is_told(serve, tmp_path):
    told = []

    def answer(path, body):
        if path == "/collective_rpc":
            files = sorted((tmp_path / "shared").glob("*.safetensors"))
            told.append((body, {name: value for file in files for name, value in load_file(file).items()}))
        elif path.startswith("/reset"):
            told.append(path)
        return like_vllm(path, body)

    policy = make_policy(f"vllm:tiny@{serve(answer)}", weights_folder=str(tmp_path / "shared"))
    backbone = Backbone.load(TINY_FOLDER)
    policy.update_weights(backbone.model)
    (body, found), *resets = told
    assert body == {"method": "reload_weights", "kwargs": {"weights_path": str(tmp_path / "shared")}}
    assert resets == ["/reset_prefix_cache", "/reset_encoder_cache"]
    expected = backbone.model.state_dict()
    assert found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in found)


def test_a_server_is_sent_weights_in_the_type_that_it_says_it_computes_in(serve, tmp_path):
    def answer(path, body):
        if path.startswith("/server_info"):
            return 200, {"vllm_config": {"model_config": {"dtype": "torch.bfloat16"}}}
        return like_vllm(path, body)

    url = serve(answer)
    assert make_policy(f"vllm:tiny@{url}").engine.dtype == torch.bfloat16
    assert make_policy(f"vllm:tiny@{url}", dtype="float16").engine.dtype == torch.float16
    assert make_policy(f"vllm:tiny@{serve(like_vllm)}").engine.dtype is None


@pytest.mark.parametrize("told", ["a text", {"model_config": None}, {"model_config": {"dtype": "a type to come"}}])
def test_a_server_that_tells_its_settings_in_another_way_is_sent_float32(serve, tmp_path, told):
    def answer(path, body):
        return (200, {"vllm_config": told}) if path.startswith("/server_info") else like_vllm(path, body)

    policy = make_policy(f"vllm:tiny@{serve(answer)}", weights_folder=str(tmp_path))
    policy.update_weights(Backbone.load(TINY_FOLDER).model)
    (file,) = tmp_path.glob("*.safetensors")
    assert {value.dtype for value in load_file(file).values()} == {torch.float32}


def test_weights_go_over_nccl_only_from_a_gpu(serve, monkeypatch):
    monkeypatch.setattr(server, "require_vllm", lambda: None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(AnatomyError, match=r"this process has none.\nLeave --vllm.weights-by folder"):
        make_policy(f"vllm:tiny@{serve(like_vllm)}", weights_by="nccl")


def test_weights_of_another_model_are_refused_with_their_names(serve, make_backbone):
    policy = make_policy(f"vllm:tiny@{serve(like_vllm)}")
    with pytest.raises(
        AnatomyError, match=r"weights of the trained model don't fit .*\n.*: \(.*the sampler has \("
    ) as told:
        policy.update_weights(make_backbone().model)
    assert "lm_head.weight" in str(told.value)
    known = {"a": torch.zeros(2), "b": torch.zeros(1)}
    with pytest.raises(AnatomyError) as told:
        check_names({"a": torch.zeros(3), "c": torch.zeros(1)}, known, "it")
    assert [line.strip() for line in str(told.value).splitlines()[1:4]] == [
        "a: (3,), the sampler has (2,)",
        "b: missing",
        "c: the sampler has none",
    ]


def test_adapters_are_merged_while_they_are_sent_and_not_all_at_once():
    model = stirred().model
    weights = CheckpointWeights(model)
    own = {value.untyped_storage().data_ptr() for value in model.state_dict().values()}
    copies, most = [], 0
    for _, value in weights:
        if value.untyped_storage().data_ptr() not in own:
            copies.append(StorageWeakRef(value.untyped_storage()))
        most = max(most, sum(not copy.expired() for copy in copies))
    assert len(copies) > 20 and most <= 4  # a weight and a bias of two layers
    assert [(name, value.shape) for name, value in weights.expected()] == [(n, v.shape) for n, v in weights]


def test_weights_that_a_checkpoint_joins_are_sent_as_it_has_them(monkeypatch):
    from anatomy_r1.agents.policies.vllm import weights

    model = stirred().model
    merged = dict(CheckpointWeights(model))
    one, two = (f"model.text_model.layers.{layer}.self_attn.k_proj.weight" for layer in (0, 1))

    def joined(model, state):
        rest = {f"new.{name}": value for name, value in state.items() if name not in (one, two)}
        return rest | {"keys": torch.stack([state[one], state[two]])}

    monkeypatch.setattr(weights, "checkpoint_names", joined)
    found = CheckpointWeights(model)
    assert [(name, value.shape) for name, value in found.expected()] == [(n, v.shape) for n, v in found]
    assert torch.equal(dict(found)["keys"], torch.stack([merged[one], merged[two]]))


@pytest.mark.parametrize("config", [LORA, DORA], ids=["lora", "dora"])
def test_adapters_are_merged_for_the_sampler_and_stay_as_they_are(config):
    plain, adapted = Backbone.load(TINY_FOLDER), stirred(config)
    before = {name: value.clone() for name, value in adapted.model.state_dict().items()}
    merged = dict(CheckpointWeights(adapted.model))
    assert all(torch.equal(value, before[name]) for name, value in adapted.model.state_dict().items())
    prompt = plain.encode(IMAGE, OBSERVATIONS["prompt"][0])
    inputs = {"input_ids": prompt.tokens[None], **prompt.per_image}
    with torch.no_grad():
        unlike = plain.model(**inputs).logits
        plain.model.load_state_dict(merged, strict=True)
        assert torch.allclose(plain.model(**inputs).logits, adapted.model(**inputs).logits, atol=1e-4)
        assert not torch.allclose(unlike, adapted.model(**inputs).logits, atol=1e-2)


def test_large_models_are_written_in_shards_and_old_ones_go(tmp_path, monkeypatch):
    from anatomy_r1.agents.policies.vllm import weights

    monkeypatch.setattr(weights, "SHARD_BYTES", 100)
    (tmp_path / "model-00009.safetensors").write_text("old")
    tied = torch.ones(20)
    write_weights([("a", tied), ("b", tied), ("c", torch.ones(5))], tmp_path, torch.bfloat16)
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["model-00000.safetensors"]
    write_weights([("a", tied), ("b", tied), ("c", torch.ones(5))], tmp_path, torch.float32)
    assert len(list(tmp_path.iterdir())) == 2


@pytest.fixture
def other_vllm(tmp_path, monkeypatch):
    """A package of vLLM's name in front of whatever is installed, of a version that was never served."""
    (tmp_path / "vllm").mkdir()
    (tmp_path / "vllm/__init__.py").write_text("")
    (tmp_path / "vllm-0.11.2.dist-info").mkdir()
    (tmp_path / "vllm-0.11.2.dist-info/METADATA").write_text("Metadata-Version: 2.1\nName: vllm\nVersion: 0.11.2\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "vllm", raising=False)


def test_another_version_is_refused_before_it_is_imported(other_vllm):
    with pytest.raises(AnatomyError, match=r"expected vLLM 0.32 or 0.33, got 0.11.2 \(the installed vLLM"):
        make_policy("vllm:tiny")
    assert "vllm" not in sys.modules


def test_where_it_is_not_installed_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if "site-packages" not in entry])
    monkeypatch.delitem(sys.modules, "vllm", raising=False)
    from anatomy_r1.agents.configs import require_vllm

    with pytest.raises(AnatomyError, match=r"needs vLLM 0.32 or 0.33, which is not installed.\npip install 'vllm"):
        require_vllm()


@pytest.mark.parametrize(
    "wrong",
    [
        {"memory_share": 1.5},
        {"timeout": 0.0},
        {"retries": -1},
        {"server": "localhost:8000"},
        {"weights_by": "nccl"},
        {"trainer_address": ":29600"},
        {"trainer_address": "host:port"},
        {"trainer_address": "http://host:29600"},
        {"trainer_address": "host:99999"},
    ],
)
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(AnatomyError, match="vllm: "):
        VllmSettings(**wrong)
