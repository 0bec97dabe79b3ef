"""Other people's internals: what we rely on still holds, and nothing of it is used outside the compat modules."""

import ast
import copy
import importlib.util
import inspect
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from accelerate.utils import DistributedType
from torch import nn

from anatomy_r1.agents import TINY_FOLDER, ModelConfig
from anatomy_r1.agents.configs.model import LoraConfig
from anatomy_r1.agents.logprobs import ResponseLogProbs, build_tree, build_trees, tree_attention
from anatomy_r1.agents.logprobs.compat import attention_of, keep_layers_whole
from anatomy_r1.agents.model import Backbone, choose_what_learns, collate, compat, has_adapters
from anatomy_r1.agents.policies import TransformersPolicy
from anatomy_r1.agents.policies.vllm import compat as vllm_compat
from anatomy_r1.agents.training import compat as training
from anatomy_r1.core import go_offline

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(Path(__file__).parent))
from test_families import FAMILIES, gradients, make  # noqa: E402 (it stands beside this file)

TRANSFORMERS = f"transformers {transformers.__version__}"
RESPONSES = [[50, 51, 52], [50, 60], [70, 71]]
by_family = pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.__name__)


def asked(family, *, frozen):
    """A tiny model of the family and prompts about two images."""
    if not hasattr(transformers.models, family.__name__):
        pytest.skip(f"{TRANSFORMERS} has no {family.__name__}")
    backbone, prompt = make(family)
    if frozen:
        text = {id(parameter) for parameter in backbone.model.get_decoder().parameters()}
        for parameter in backbone.model.parameters():
            parameter.requires_grad_(id(parameter) in text)
    pictures = [np.zeros((8, 8, 3), np.uint8), np.ones((8, 8, 3), np.uint8)]
    first = prompt(pictures[0], [20, 21, 22], 1)
    return backbone, [first, first, prompt(pictures[1], [20, 30, 31], 2)]


def generated(backbone, prompt):
    inputs = collate([prompt], backbone.pad_token, side="left")
    return backbone.model.generate(**inputs, max_new_tokens=5, do_sample=False).tolist()


def everything(model):
    """What anyone could have changed about a model: its config and its modules' own attributes."""
    return model.config.to_json_string(use_diff=False), [
        (name, attention_of(module.config) if hasattr(module, "config") else None, sorted(vars(module)))
        for name, module in model.named_modules()
    ]


@pytest.mark.parametrize("frozen", [False, True], ids=["learning", "frozen"])
@by_family
def test_a_model_generates_before_inside_and_after(family, frozen):
    backbone, prompts = asked(family, frozen=frozen)
    untouched, _ = make(family)
    expected = generated(untouched, prompts[2])
    assert generated(backbone, prompts[2]) == expected
    inside, state = [], everything(backbone.model)
    trees = build_trees(range(3), prompts, RESPONSES, 1000)
    scorers = [ResponseLogProbs(backbone, packing) for packing in ("tree", "padded")]
    assert everything(backbone.model) == state

    def meanwhile(*_):
        hook.remove()
        inside.append(generated(backbone, prompts[2]))

    for scorer in scorers:
        hook = backbone.model.get_decoder().register_forward_pre_hook(meanwhile)
        gradients(backbone, scorer(trees).logprobs.sum())
        assert generated(backbone, prompts[2]) == expected
    assert inside == [expected] * 2
    backbone.encode = lambda image, name: prompts[int(name)]
    TransformersPolicy(backbone, max_new_tokens=3).respond({"image": [p.image for p in prompts], "prompt": list("012")})
    assert generated(backbone, prompts[2]) == expected and everything(backbone.model) == state


@by_family
def test_models_take_features_in_place_of_pixels(family):
    backbone, prompts = asked(family, frozen=True)
    assert compat.takes_features(backbone.model) and compat.takes_features(backbone.model.base_model), (
        f"the forward pass of {family.__name__} in {TRANSFORMERS} takes no mm_encoder_outputs any more: frozen towers "
        "look at every image in every pass. Find the new way to give features, for agents/model/compat.py."
    )
    inputs = collate(prompts[:2], backbone.pad_token, side="left")
    with torch.no_grad():
        expected = backbone.model(**inputs).logits
        found = backbone.model(**backbone.vision.look(inputs, prompts[:2])).logits
    assert torch.allclose(found, expected, atol=1e-9), (
        f"{family.__name__} in {TRANSFORMERS} makes something else of features than of the pixels they come from."
    )


def test_attention_has_the_name_that_the_model_was_built_with():
    config = Backbone.load(TINY_FOLDER).model.config.get_text_config()
    assert hasattr(config, "_attn_implementation"), (
        f"configs of {TRANSFORMERS} have no _attn_implementation any more: see agents/logprobs/compat.py."
    )
    config._attn_implementation = "eager"
    assert attention_of(config) == "eager"


@by_family
def test_layers_that_are_kept_whole_are_named(family):
    backbone, _ = asked(family, frozen=False)
    scorer = nn.Module()
    keep_layers_whole(scorer, backbone.model)
    kinds = {type(module).__name__ for module in backbone.model.modules()}
    assert scorer._no_split_modules and kinds & set(scorer._no_split_modules), (
        f"{family.__name__} in {TRANSFORMERS} names none of its layers in _no_split_modules: FSDP would have one shard."
    )


def test_accelerate_looks_for_the_layers_to_keep_whole_where_we_name_them():
    from accelerate.utils import FullyShardedDataParallelPlugin

    source = inspect.getsource(FullyShardedDataParallelPlugin.set_auto_wrap_policy)
    assert "_no_split_modules" in source, (
        "accelerate doesn't look in _no_split_modules for layers to shard by: see agents/logprobs/compat.py."
    )


@by_family
def test_a_mask_in_blocks_reaches_attention_whole(family, monkeypatch):
    backbone, prompts = asked(family, frozen=False)
    monkeypatch.setattr(tree_attention, "BLOCK", 4)
    arrived, attend = [], tree_attention._attend
    monkeypatch.setattr(
        tree_attention,
        "_attend",
        lambda *given, **options: arrived.append(options["attn_mask"]) or attend(*given, **options),
    )
    ResponseLogProbs(backbone)([build_tree([0, 1], prompts[:2], RESPONSES[:2])])
    assert len(arrived) == 3 and all(hasattr(mask, "blocks") for mask in arrived), (
        f"on the way to scaled_dot_product_attention {family.__name__} of {TRANSFORMERS} makes another tensor of its "
        "mask: attention over trees is right, but no longer in blocks. See agents/logprobs/tree_attention.py."
    )


@pytest.mark.parametrize("family", FAMILIES[:2] + FAMILIES[-1:], ids=lambda family: family.__name__)
def test_layers_run_again_attend_in_blocks_too(family, monkeypatch):
    backbone, prompts = asked(family, frozen=False)
    monkeypatch.setattr(tree_attention, "BLOCK", 4)
    trees, scorer = build_trees(range(3), prompts, RESPONSES, 1000), ResponseLogProbs(backbone)
    backbone.model.train()
    expected = gradients(backbone, scorer(trees).logprobs.sum())
    assert compat.checkpoint_activations(backbone.model), f"{TRANSFORMERS} has no gradient checkpointing any more."
    found = gradients(backbone, scorer(trees).logprobs.sum())
    assert all(torch.allclose(found[name], expected[name], atol=1e-9) for name in expected)


def test_gradient_checkpointing_is_asked_for_by_its_present_name(recwarn):
    compat.checkpoint_activations(Backbone.load(TINY_FOLDER).model)
    old = [str(warning.message) for warning in recwarn if "checkpointing" in str(warning.message)]
    assert not old, f"{TRANSFORMERS} has another name for gradient checkpointing: {old[0]}"


def test_adapters_can_be_switched_off_and_come_back_as_they_were():
    model = Backbone.load(TINY_FOLDER).model
    assert not has_adapters(model)
    choose_what_learns(model, ModelConfig(lora=LoraConfig(rank=2), freeze=r"layers\.0.*lora_A"))
    assert has_adapters(model), f"{TRANSFORMERS} doesn't note adapters in model.peft_config any more."
    layers = [module for module in model.modules() if hasattr(module, "lora_A")]
    learns = {name: p.requires_grad for name, p in model.named_parameters()}
    assert all(layer._disable_adapters is False and not layer.disable_adapters for layer in layers), (
        "peft's layers have no _disable_adapters any more, or don't obey it: see agents/model/compat.py."
    )
    with compat.adapters_off(model):
        assert all(layer.disable_adapters for layer in layers), (
            "peft's layers don't ask _disable_adapters any more: the KL term would be taken to the policy itself."
        )
    assert not any(layer.disable_adapters for layer in layers)
    assert learns == {name: p.requires_grad for name, p in model.named_parameters()}


def test_a_stand_in_answers_for_the_image_processor_and_goes(processor, scenes):
    original = processor.image_processor

    def stand_in(images, **options):
        asked_of.append(images)
        return original(images, **options)

    asked_of = []
    stand_in = type(
        "StandIn", (), {"__call__": staticmethod(stand_in), "__getattr__": lambda _, n: getattr(original, n)}
    )
    with compat.image_processor(processor, stand_in()):
        processor(text=["<image> What?"], images=[[scenes.question(0).pixels()]], return_tensors="pt")
    assert len(asked_of) == 1, f"processors of {TRANSFORMERS} don't ask self.image_processor any more."
    assert processor.image_processor is original


@pytest.mark.skipif(
    importlib.util.find_spec("torchvision") is not None, reason="nothing is replaced beside torchvision"
)
def test_processors_load_without_their_video_part_and_nothing_stays_replaced():
    from transformers.models.auto.video_processing_auto import AutoVideoProcessor
    from transformers.processing_utils import ProcessorMixin

    changed = (
        f"{TRANSFORMERS} loads a processor's video part in another way: see without_video in agents/model/compat.py."
    )
    assert "from_pretrained" in AutoVideoProcessor.__dict__, changed
    parameters = inspect.signature(ProcessorMixin.check_argument_for_proper_class).parameters
    assert list(parameters)[:3] == ["self", "argument_name", "argument"], changed
    before = AutoVideoProcessor.__dict__["from_pretrained"], ProcessorMixin.check_argument_for_proper_class
    with compat.without_video(lambda path: {"fps": 2, "path": path}):
        made = AutoVideoProcessor.from_pretrained("somewhere", trust_remote_code=False)
        assert made.to_dict() == {"fps": 2, "path": "somewhere"} and made.fps == 2 and made.size is None
        assert ProcessorMixin.check_argument_for_proper_class(object(), "video_processor", made) is compat.NoVideo
    after = AutoVideoProcessor.__dict__["from_pretrained"], ProcessorMixin.check_argument_for_proper_class
    assert after == before


def test_a_tokenizer_without_padding_stays_so(processor):
    processor = copy.deepcopy(processor)
    processor.tokenizer.pad_token = None
    backbone = Backbone(Backbone.load(TINY_FOLDER).model, processor)
    assert processor.tokenizer.pad_token is None and backbone.pad_token == processor.tokenizer.eos_token_id


@pytest.fixture
def accelerator():
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(reset_partial_state=True)
    yield Accelerator(cpu=True)
    AcceleratorState._reset_state(reset_partial_state=True)


def test_accelerate_exchanges_gradients_when_it_is_told(accelerator):
    passed = []
    accelerator.deepspeed_engine_wrapped = type("Engine", (), {"backward": lambda _, loss, **o: passed.append(o)})()
    accelerator.state.distributed_type = DistributedType.DEEPSPEED
    for last in (False, True):
        accelerator.sync_gradients = last
        accelerator.backward(torch.zeros(()))
    assert [options["sync_gradients"] for options in passed] == [False, True], (
        "accelerate's DeepSpeed engine no longer asks accelerator.sync_gradients whether a pass is the last of a step."
    )


def test_accelerate_shards_on_a_cpu_where_its_state_is_rewritten(accelerator):
    training.shard_on_cpu(accelerator)
    assert accelerator.distributed_type is DistributedType.FSDP, (
        "accelerate doesn't read from accelerator.state what to do: see shard_on_cpu in agents/training/compat.py."
    )


def test_accelerate_shards_modules_without_an_optimiser():
    from accelerate.utils.fsdp_utils import fsdp2_prepare_model

    assert list(inspect.signature(fsdp2_prepare_model).parameters) == ["accelerator", "model"], (
        "accelerate shards a module by another call: see shard_weights in agents/training/compat.py."
    )


def test_accelerate_takes_its_mesh_from_where_it_is_put(accelerator):
    from accelerate.utils.fsdp_utils import fsdp2_prepare_model

    source, changed = inspect.getsource(fsdp2_prepare_model), "see _mesh_on_cpu in agents/training/compat.py."
    assert "torch_device_mesh" in source and "parallelism_config.fsdp_dim_names" in source, changed
    assert training.NO_MESH.total_size == 1 and training.NO_MESH.build_device_mesh("cpu") is None, changed
    accelerator.state.device_mesh = "a mesh"
    assert accelerator.torch_device_mesh == "a mesh", changed


def test_accelerate_takes_settings_of_deepspeed_from_its_plugin():
    from accelerate import Accelerator

    source = inspect.getsource(Accelerator._prepare_deepspeed)
    assert "deepspeed_config" in source and "train_micro_batch_size_per_gpu" in source, (
        "accelerate reads DeepSpeed's settings elsewhere: see configure_deepspeed in agents/training/compat.py."
    )


def test_the_bare_optimiser_is_below_accelerates(accelerator):
    bare = torch.optim.AdamW([nn.Parameter(torch.zeros(1))])
    wrapped = accelerator.prepare(bare)
    assert wrapped is not bare and training.bare_optimiser(wrapped) is bare, (
        "accelerate doesn't keep the optimiser it wraps as .optimizer any more: checkpoints would hold no moments."
    )


def test_transformers_loads_whole_models_while_its_reference_is_gone():
    from transformers.integrations import deepspeed

    changed = (
        f"{TRANSFORMERS} finds DeepSpeed's config by another way: see models_undivided in agents/training/compat.py."
    )
    assert hasattr(deepspeed, "_hf_deepspeed_config_weak_ref"), changed
    third = type("Config", (), {"config": {}, "is_zero3": lambda _: True})()
    before, deepspeed._hf_deepspeed_config_weak_ref = deepspeed._hf_deepspeed_config_weak_ref, lambda: third
    try:
        assert deepspeed.is_deepspeed_zero3_enabled(), changed
        with training.models_undivided():
            assert not deepspeed.is_deepspeed_zero3_enabled(), changed
        assert deepspeed._hf_deepspeed_config_weak_ref() is third
    finally:
        deepspeed._hf_deepspeed_config_weak_ref = before


def test_deepspeed_has_the_parts_that_we_take_from_it():
    pytest.importorskip("deepspeed")
    from deepspeed.runtime.zero import parameter_offload, partition_parameters, stage3, stage_1_and_2

    for module, names in {
        parameter_offload: ("def _remove_module_hooks(self)", "def setup_zero_stage3_hooks(self)"),
        partition_parameters: ("ds_active_sub_modules",),
        stage3: ("self.parameter_offload", "self.fp32_partitioned_groups_flat"),
        stage_1_and_2: ("self.single_partition_of_fp32_groups", "def _lazy_init_hp_params_optimizer_state(self)"),
    }.items():
        source = inspect.getsource(module)
        for name in names:
            assert name in source, (
                f"DeepSpeed: {module.__name__} has no {name!r} any more: see agents/training/compat.py."
            )


def test_weights_have_the_names_of_their_checkpoint(tmp_path):
    from safetensors.torch import load_file

    backbone = Backbone.load(TINY_FOLDER)
    backbone.save(tmp_path)
    saved = load_file(tmp_path / "model.safetensors")
    named = vllm_compat.checkpoint_names(backbone.model, backbone.model.state_dict())
    assert saved.keys() <= named.keys() and all(torch.equal(saved[name], named[name]) for name in saved), (
        f"revert_weight_conversion of {TRANSFORMERS} names weights otherwise than save_pretrained does."
    )


def test_vllm_is_given_weights_and_forgets_what_it_knew_by_others():
    asked_of = []

    class Engine:
        def __getattr__(self, name):
            return lambda *given, **options: asked_of.append((name, *given, *options.get("kwargs", ())))

    engine = Engine()
    engine.llm_engine = Engine()
    vllm_compat.reload_weights(engine, [("a", torch.zeros(1))])
    vllm_compat.forget_caches(engine)
    assert asked_of == [
        ("collective_rpc", "reload_weights", "weights_iterator"),
        ("reset_prefix_cache",),
        ("reset_encoder_cache",),
    ]


def test_vllm_has_the_parts_that_we_take_from_it():
    vllm = pytest.importorskip("vllm")
    from vllm.v1.engine.llm_engine import LLMEngine
    from vllm.v1.worker.gpu_model_runner import GPUModelRunner

    taken = inspect.signature(GPUModelRunner.reload_weights).parameters
    assert {"weights_iterator", "weights_path"} <= set(taken), (
        f"workers of vLLM {vllm.__version__} take new weights by another call: see agents/policies/vllm/compat.py."
    )
    for owner, name in (
        (vllm.LLM, "collective_rpc"),
        (vllm.LLM, "reset_prefix_cache"),
        (LLMEngine, "reset_encoder_cache"),
    ):
        assert hasattr(owner, name), f"vLLM {vllm.__version__}: {owner.__name__} has no {name} any more."


def test_vllm_starts_without_a_trace(monkeypatch):
    import os
    import random

    monkeypatch.delenv("VLLM_ENABLE_V1_MULTIPROCESSING", raising=False)
    monkeypatch.setenv("VLLM_LOGGING_LEVEL", "ERROR")
    before = random.getstate(), torch.random.get_rng_state().tolist(), dict(os.environ)
    with vllm_compat.surroundings_kept():
        assert os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] == "0"
        random.seed(7)
        torch.manual_seed(7)
    assert (random.getstate(), torch.random.get_rng_state().tolist(), dict(os.environ)) == before


ROOMS = ("core", "banks", "curricula", "envs", "agents", "evaluation", "workflows", "cli")
PUBLIC = {"_replace", "_asdict", "_fields"}
"""Names of the standard library that are public, whatever they begin with (named tuples)."""


def is_private(name):
    return isinstance(name, str) and name.startswith("_") and not name.startswith("__") and name.strip("_") != ""


def intrusions(tree):
    """Uses of what others keep private, and changes to what they own: line and what stands there."""
    foreign, own = set(), set(PUBLIC)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            foreign |= {(alias.asname or alias.name).split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not (node.module or "").startswith("anatomy_r1"):
            foreign |= {alias.asname or alias.name for alias in node.names}
            yield from ((node.lineno, f"import {a.name}") for a in node.names if is_private(a.name))
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            own.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            own.add(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and ast.unparse(node.value) == "self":
            own.add(node.attr)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            root = node.value
            while isinstance(root, ast.Attribute):
                root = root.value
            changed = isinstance(node.ctx, ast.Store | ast.Del) and isinstance(root, ast.Name) and root.id in foreign
            if changed or (is_private(node.attr) and node.attr not in own):
                yield node.lineno, ast.unparse(node)
        elif isinstance(node, ast.keyword) and is_private(node.arg):
            yield node.value.lineno, f"{node.arg}="
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and len(node.args) > 1:
            first, second = node.args[0], node.args[1]
            name = second.value if isinstance(second, ast.Constant) else None
            private = node.func.id in ("getattr", "hasattr", "setattr", "delattr") and is_private(name)
            owner = node.func.id in ("setattr", "delattr") and isinstance(first, ast.Name) and first.id in foreign
            if (private and name not in own) or owner:
                yield node.lineno, ast.unparse(node)


FILES = [path for room in ROOMS for path in sorted((ROOT / room).rglob("*.py")) if path.name != "compat.py"]


def own_names():
    """Private names that a class of ours has: a subclass may use those of the class it comes from."""
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                for part in ast.walk(node):
                    if isinstance(part, ast.FunctionDef):
                        yield part.name
                    elif isinstance(part, ast.Attribute) and isinstance(part.ctx, ast.Store):
                        yield part.attr


def test_the_hubs_client_goes_by_its_constant(monkeypatch):
    from huggingface_hub import constants, hf_hub_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    go_offline()
    with pytest.raises(LocalEntryNotFoundError) as refused:
        hf_hub_download("nobody/nothing", "config.json")
    assert "HF_HUB_OFFLINE" in str(refused.value) + str(refused.value.__cause__), (
        "the hub's client goes by something else"
    )


def test_private_names_of_others_stay_in_compat_modules():
    ours = {f"self.{name}" for name in own_names()}
    found = [
        f"{path.relative_to(ROOT)}:{line}: {what}"
        for path in FILES
        for line, what in intrusions(ast.parse(path.read_text(encoding="utf-8")))
        if what not in ours
    ]
    assert not found, "move these into a compat module, with a test of its own:\n" + "\n".join(found)


@pytest.mark.parametrize(
    "code",
    [
        "def f(model): return model._attn_implementation",
        "def f(config): config._attn_implementation = 'sdpa'",
        "def f(model): return getattr(model, '_hf_peft_config_loaded', False)",
        "from transformers.x import Auto\nAuto.from_pretrained = None",
        "from transformers import x\nsetattr(x.Auto, 'from_pretrained', None)\nx.y = 1",
        "import transformers\ntransformers.x.y = 1",
        "from transformers.utils import _private",
        "def f(): cached_file('x', _raise_exceptions=False)",
    ],
)
def test_what_belongs_into_a_compat_module_is_found(code):
    assert list(intrusions(ast.parse(code)))
