"""The fuzz targets hold on what they begin with, and on what hypothesis makes of it; `make fuzz` goes by coverage."""

import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))
from targets import TARGETS, seeds

FAULTS = sorted((Path(__file__).parent / "faults").glob("*"))
"""Inputs that fuzzing found to break a target, named NAME-WHAT; none may again."""


@pytest.mark.parametrize("name", TARGETS)
def test_the_seeds_break_nothing(name):
    for seed in seeds(name):
        TARGETS[name](seed)


def test_what_once_broke_a_target_does_not_again():
    for path in FAULTS:
        TARGETS[path.name.partition("-")[0]](path.read_bytes())


@pytest.mark.parametrize("name", TARGETS)
@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_changed_seeds_break_nothing(name, data):
    seed = bytearray(data.draw(st.sampled_from(seeds(name))))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(seed)))
        seed[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=4))
    TARGETS[name](bytes(seed))
