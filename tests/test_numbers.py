"""Every number that can be set has a range, and nothing outside of it gets in: from TOML, from flags, from options."""

import dataclasses
import importlib
import math
import re
import typing
from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anatomy_r1.agents import POLICIES, GRPOConfig, ModelConfig, SFTConfig, VllmSettings
from anatomy_r1.agents.policies import TransformersPolicy
from anatomy_r1.agents.policies.vllm import VllmPolicy
from anatomy_r1.banks import BANKS, open_bank
from anatomy_r1.cli.arguments import parse
from anatomy_r1.cli.commands import COMMANDS
from anatomy_r1.cli.main import run
from anatomy_r1.core import AnatomyError, Count, Range, Share, build, hints_of, is_number, parameters_of, requirement
from anatomy_r1.curricula import AUGMENTATIONS, CURRICULA, make_augmentation, make_curriculum
from anatomy_r1.curricula.edits.registry import EDITS
from anatomy_r1.curricula.schedules import SCHEDULES
from anatomy_r1.curricula.similarity.measures import SIMILARITIES
from anatomy_r1.envs import RewardConfig
from anatomy_r1.evaluation.run.suite import Entrant, Field, Suite
from anatomy_r1.workflows import DemoConfig, HeldOut, SFTRunConfig, TrainConfig, read_config

CONFIGS = (
    *(GRPOConfig, SFTConfig, ModelConfig, VllmSettings, RewardConfig, HeldOut, TrainConfig, SFTRunConfig, DemoConfig),
    *(Suite, Field, Entrant, typing.get_type_hints(ModelConfig)["lora"]),
    *(getattr(importlib.import_module(f"anatomy_r1.cli.{one.module}"), one.kind) for one in COMMANDS.values()),
)
FACTORIES = {
    f"{registry.kind} {name}": registry.find(name)[0]
    for registry in (BANKS, CURRICULA, AUGMENTATIONS, EDITS, SCHEDULES, SIMILARITIES, POLICIES)
    for name in registry.names()
} | {"policy hf": TransformersPolicy, "policy vllm": VllmPolicy}
WRONG = (math.nan, math.inf, -math.inf, True, "3", -1e300, -1)


def numbers_in(hint):
    """The types of numbers in a type, those of a union or of a tuple one by one."""
    if is_number(hint):
        return [hint]
    # Of a mapping no value is NaN or infinite; sequences are judged by what takes them.
    if typing.get_origin(hint) in (dict, Mapping, Sequence):
        return []
    return [one for part in typing.get_args(hint) if part is not ... for one in numbers_in(part)]


def has_range(hint):
    return any(isinstance(one, Range) for one in typing.get_args(hint)[1:])


@pytest.mark.parametrize("kind", CONFIGS, ids=lambda kind: f"{kind.__module__}.{kind.__name__}")
def test_every_number_of_every_config_has_a_range(kind):
    for name, hint in hints_of(kind).items():
        assert all(map(has_range, numbers_in(hint))), f"{kind.__name__}.{name}: give it a range (core/ranges.py)"


@pytest.mark.parametrize("what", FACTORIES)
def test_every_number_among_options_has_a_range(what):
    for name, parameter in parameters_of(FACTORIES[what]).items():
        assert all(map(has_range, numbers_in(parameter.annotation))), f"{what}, {name}: give it a range"


def settable(kind):
    """Fields of a config that are numbers alone, with a value for those without a default."""
    return [name for name, hint in hints_of(kind).items() if is_number(hint)]


CHECKED = (GRPOConfig, SFTConfig, ModelConfig, VllmSettings, HeldOut, TrainConfig, SFTRunConfig, DemoConfig)


@pytest.mark.parametrize("wrong", WRONG, ids=repr)
@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind in CHECKED for name in settable(kind)])
def test_a_number_out_of_range_is_refused_by_name(kind, name, wrong):
    with pytest.raises(AnatomyError, match=rf"{name} must be .*got {re.escape(repr(wrong))}") as error:
        kind(**{name: wrong})
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("wrong", ["nan", "inf", "-inf", "-1", "true", '"3"'])
@pytest.mark.parametrize("name", ["weight_decay", "warmup_steps", "final_lr_share", "max_skipped"])
def test_toml_and_flags_are_held_to_the_same(tmp_path, capsys, name, wrong):
    (tmp_path / "one.toml").write_text(f"[grpo]\n{name} = {wrong}\n")
    with pytest.raises(AnatomyError, match=rf"one.toml: grpo.*{name} must be"):
        read_config(TrainConfig, tmp_path / "one.toml")
    flag, typed = f"--grpo.{name.replace('_', '-')}", wrong.strip('"')
    assert typed == "3" or run(["train", flag, typed, "--out", str(tmp_path / "run")]) == 2
    assert typed == "3" or name in capsys.readouterr().err.replace("-", "_")
    assert not (tmp_path / "run").exists()


OPTIONS = [
    (make_curriculum, "asc", "replay", 1.0),
    (make_curriculum, "asc", "tolerance", math.nan),
    (make_curriculum, "asc", "refresh", 0),
    (make_curriculum, "asc", "easy_weight", math.inf),
    (make_augmentation, "gdqa", "decay", math.nan),
    (make_augmentation, "gdqa", "decay", 1.5),
    (make_augmentation, "gdqa", "threshold", -0.1),
]


@pytest.mark.parametrize(("make", "spec", "name", "wrong"), OPTIONS)
def test_options_out_of_range_are_refused_by_name(make, spec, name, wrong):
    with pytest.raises(AnatomyError, match=f"{spec}.*{name} must be .*got {wrong}"):
        make(spec, open_bank("scenes"), **{name: wrong})


def test_an_option_whose_type_nobody_wrote_down_is_finite_too():
    with pytest.raises(AnatomyError, match="share must be finite, got nan"):
        build(lambda share=0.5: share, "mine", share=math.nan)


@pytest.mark.parametrize("typed", ["replay nan", "replay inf", "replay -1"])
def test_options_from_flags_are_held_to_it(tmp_path, capsys, typed):
    out = tmp_path / "run"
    assert run(["train", "--curriculum-options", *typed.split(), "--held-out.limit", "0", "--out", str(out)]) == 2
    assert "must be" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "typed"),
    [("evaluate", ["--n", "0"]), ("evaluate", ["--batch-size", "-1"]), ("watch", ["--port", "99999"])],
)
def test_commands_are_held_to_it(command, typed):
    kind = getattr(importlib.import_module(f"anatomy_r1.cli.{COMMANDS[command].module}"), COMMANDS[command].kind)
    with pytest.raises(AnatomyError, match=f"{command}: {typed[0][2:].replace('-', '_')} must be"):
        parse(kind, command, typed)


def test_a_suite_is_held_to_it():
    assert not [name for name in settable(Suite) if not has_range(hints_of(Suite)[name])]
    assert requirement((0, -1), hints_of(Suite)["seeds"]) == "at least 0"


@given(st.floats() | st.integers())
def test_what_is_taken_is_finite_and_in_range(value):
    assert (requirement(value, Share) is None) == (0 <= value <= 1)
    assert (requirement(value, Count) is None) == (isinstance(value, int) and 1 <= value < 2**31)


def test_defaults_are_in_range():
    for kind in CHECKED:
        assert dataclasses.is_dataclass(kind())
