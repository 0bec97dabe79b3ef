import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anatomy_r1.core import AnatomyError
from anatomy_r1.workflows import DemoConfig, Scalar, TrainConfig, read_config, to_toml


@dataclass(frozen=True)
class Inner:
    rate: float = 0.1
    mode: Literal["a", "b"] = "a"


@dataclass(frozen=True)
class Outer:
    name: str = "x"
    steps: int = 1
    fast: bool = False
    out: Path = Path("runs")
    limit: int | None = None
    options: dict[str, Scalar] = field(default_factory=dict)
    inner: Inner = field(default_factory=Inner)


def write(folder, text):
    path = folder / "config.toml"
    path.write_text(text, encoding="utf-8")
    return path


scalars = st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False, allow_infinity=False) | st.text()


@given(
    st.builds(
        Outer,
        name=st.text(),
        steps=st.integers(-(2**60), 2**60),
        fast=st.booleans(),
        limit=st.none() | st.integers(0, 9),
        options=st.dictionaries(st.from_regex(r"[a-z_]{1,8}", fullmatch=True), scalars),
        inner=st.builds(Inner, rate=st.floats(allow_nan=False, allow_infinity=False), mode=st.sampled_from("ab")),
    )
)
def test_any_config_survives_toml(tmp_path_factory, config):
    path = write(tmp_path_factory.mktemp("config"), to_toml(config))
    assert read_config(Outer, path) == config


def test_default_training_config_survives_toml(tmp_path):
    assert read_config(TrainConfig, write(tmp_path, to_toml(TrainConfig()))) == TrainConfig()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[inner]\nrat = 1.0", r"unknown key inner\.rat\. Did you mean inner\.rate\?"),
        ("zzz = 1", "unknown key zzz. Known here: name, steps"),
        ('steps = "3"', "steps must be int, got '3'"),
        ("steps = true", "steps must be int, got True"),
        ("steps = 1.5", "steps must be int, got 1.5"),
        ('[inner]\nmode = "c"', "inner.mode must be one of 'a', 'b', got 'c'"),
        ("inner = 3", "inner must be a table, got 3"),
        ("steps = = 3", "not a TOML file"),
    ],
)
def test_bad_configs_name_file_and_key(tmp_path, text, message):
    path = write(tmp_path, text)
    with pytest.raises(AnatomyError, match=message) as error:
        read_config(Outer, path)
    assert str(path) in str(error.value)


def test_missing_file(tmp_path):
    with pytest.raises(AnatomyError, match="config file not found"):
        read_config(Outer, tmp_path / "none.toml")


def test_a_table_that_says_little_keeps_what_its_owner_has(tmp_path):
    path = write(tmp_path, "[grpo]\nsteps = 3\n")
    assert read_config(DemoConfig, path).grpo == dataclasses.replace(DemoConfig().grpo, steps=3)


def test_not_a_number_is_no_number(tmp_path):
    with pytest.raises(AnatomyError, match=r"inner\.rate must be float, got nan"):
        read_config(Outer, write(tmp_path, "[inner]\nrate = nan\n"))
