"""The versions in locks/: one solution for every Python and machine, of all that is asked for."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
MAKE = dict(re.findall(r"^(\w+) := (.*)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
ENVIRONMENTS = {
    "dev": MAKE["EXTRAS"].split(","),
    "vllm": ["train", "report"],
    "docs": ["docs"],
    **{name: [name, "brain"] for name in MAKE["FRONT_ENDS"].split()},
}


def lines(path):
    return (ROOT / "locks" / path).read_text(encoding="utf-8").splitlines()


def asked_for(extras):
    for line in [
        *PROJECT["dependencies"],
        *(line for extra in extras for line in PROJECT["optional-dependencies"][extra]),
    ]:
        requirement = Requirement(line)
        if requirement.name == PROJECT["name"]:
            yield from asked_for(requirement.extras)
        else:
            yield requirement


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_locks_name_versions_and_nothing_else(name):
    for line in lines(f"{name}.txt"):
        assert re.fullmatch(r"[a-z0-9-]+==[0-9a-z.]+( ; [a-z_<>=!'.0-9 ()A-Z]+)?", line), line


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_locks_leave_the_build_of_torch_open(name):
    assert not [line for line in lines(f"{name}.txt") if re.match(r"torch|triton|nvidia|cuda", line)]


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_locks_have_what_is_asked_for_in_versions_that_serve(name):
    locked = {canonicalize_name(pin.name): pin for pin in map(Requirement, lines(f"{name}.txt"))}
    more = map(Requirement, lines(f"{name}.in")) if (ROOT / f"locks/{name}.in").exists() else ()
    for requirement in (*asked_for(ENVIRONMENTS[name]), *more):
        if requirement.name != "torch":
            pin = locked[canonicalize_name(requirement.name)]
            assert requirement.specifier.contains(str(pin.specifier).removeprefix("==")), requirement
