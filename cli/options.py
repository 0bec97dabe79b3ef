"""``anatomy-r1 bank options NAME`` and its like: what is plugged in can be told, read off its docstring."""

import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from typing import Annotated, Any

import tyro

from anatomy_r1.agents import POLICIES
from anatomy_r1.banks import BANKS
from anatomy_r1.cli.console import listing, say
from anatomy_r1.cli.help import field_docs
from anatomy_r1.core import Registry
from anatomy_r1.curricula import AUGMENTATIONS, CURRICULA

GIVEN = ("bank", "seed")
"""What curricula, augmentations and policies are handed by the command."""
NOT_TYPED = ("questions", "ask", "tell", "settings", "dummy")
"""What can be given in Python alone."""
_TRANSFORMERS = "anatomy_r1.agents.policies.transformers:TransformersPolicy"
BEHIND = {
    "hf": [_TRANSFORMERS],
    "tiny": [_TRANSFORMERS],
    "tiny-coarse": [_TRANSFORMERS],
    "vllm": ["anatomy_r1.agents.policies.vllm:VllmPolicy", "anatomy_r1.agents:VllmSettings"],
}
"""Policies whose options are those of a class that is imported when it is needed."""
_ENTRY = re.compile(r"^ {4}(\w[\w, ]*?): (.*(?:\n {6,}.*)*)", re.MULTILINE)


@dataclass(frozen=True)
class Option:
    """Something that can be told to what is plugged in."""

    name: str
    default: str
    """Empty where there is none."""
    doc: str


def options_of(registry: Registry[Any], spec: str) -> list[Option]:
    """Options of what a spec names, in the order of its signature.

    Raises:
        AnatomyError: an unknown name, or nothing that can be imported.
    """
    hidden = NOT_TYPED if registry is BANKS else (*NOT_TYPED, *GIVEN)
    factories = [_imported(path) for path in BEHIND.get(spec, ())] or [registry.find(spec)[0]]
    found = [one for factory in factories for one in _parameters(factory) if one.name not in hidden]
    behind = spec in BEHIND or registry.knows(spec)  # what stands behind the colon is no option
    return [one for one in found if not (behind and one.name in ("path", "spec", "model", "probability", "image"))]


def summary_of(registry: Registry[Any], name: str) -> str:
    """The first sentence about what is registered under a name."""
    text = inspect.getdoc(registry.find(name)[0]) or ""
    return _sentence(text.partition("\n\n")[0])


def _parameters(factory: Any) -> Iterator[Option]:
    text = inspect.getdoc(factory) or ""
    if isinstance(factory, type):
        text += "\n" + (inspect.getdoc(vars(factory).get("__init__")) or "")
        fields = field_docs(factory) if hasattr(factory, "__dataclass_fields__") else {}
    else:
        fields = {}
    entries = [(names, " ".join(doc.split())) for names, doc in _ENTRY.findall(text.partition("Args:")[2])]
    docs = {name.strip(): doc for names, doc in entries for name in names.split(",")} | fields
    for name, parameter in inspect.signature(factory).parameters.items():
        if parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
            continue
        default = "" if parameter.default in (parameter.empty, "") else str(parameter.default)
        yield Option(name, default, _sentence(docs.get(name, "")))


def _sentence(text: str) -> str:
    """Its first sentence on one line, without the marks of reStructuredText."""
    plain = re.sub(r":\w+:`([^`]*)`|``([^`]*)``", lambda found: found[1] or found[2], " ".join(text.split()))
    return re.split(r"(?<=[.!?])\s(?=[A-Z])", plain, maxsplit=1)[0]


def _imported(path: str) -> Any:
    module, _, attribute = path.partition(":")
    return getattr(import_module(module), attribute)


def _show(registry: Registry[Any], spec: str) -> None:
    found = options_of(registry, spec)
    flag = f"--{registry.kind}-options"
    if not found:
        return say(f"{registry.kind} {spec} takes no {flag}.")
    rows = [(one.name, f"{one.doc} [{one.default}]" if one.default else one.doc) for one in found]
    listing(f"{registry.kind} {spec}: {flag}, with defaults", rows)


@dataclass(frozen=True)
class BankOptions:
    """Options of a bank."""

    name: Annotated[str, tyro.conf.Positional] = "scenes"
    """Bank, as in bank list."""

    def run(self) -> None:
        """Print them."""
        _show(BANKS, self.name)


@dataclass(frozen=True)
class CurriculumOptions:
    """Options of a curriculum."""

    name: Annotated[str, tyro.conf.Positional] = "asc"
    """Curriculum, as in bank list."""

    def run(self) -> None:
        """Print them."""
        _show(CURRICULA, self.name)


@dataclass(frozen=True)
class AugmentationOptions:
    """Options of an augmentation."""

    name: Annotated[str, tyro.conf.Positional] = "gdqa"
    """Augmentation, as in bank list."""

    def run(self) -> None:
        """Print them."""
        _show(AUGMENTATIONS, self.name)


@dataclass(frozen=True)
class PolicyOptions:
    """Options of a policy."""

    name: Annotated[str, tyro.conf.Positional] = "tiny"
    """Policy, as in bank list."""

    def run(self) -> None:
        """Print them."""
        _show(POLICIES, self.name)
