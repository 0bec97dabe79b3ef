"""The specs ``tiny``, ``hf:`` and ``vllm:``: torch and vLLM are imported when such a policy is made, not before."""

import dataclasses
from typing import Any

from anatomy_r1.agents.configs import EMBEDDED, VllmSettings, require_reachable, require_training_extra, require_vllm
from anatomy_r1.agents.policies.protocol import POLICIES, Policy
from anatomy_r1.core import build


@POLICIES.register("hf")
def _transformers(path: str, **options: Any) -> Policy:
    """Any image-text-to-text transformers model, ``hf:PATH_OR_ID``."""
    require_training_extra(f"policy hf:{path}")
    require_reachable(path)
    from anatomy_r1.agents.policies.transformers import TransformersPolicy

    return build(TransformersPolicy, f"policy hf:{path}", path, **options)


@POLICIES.register("tiny")
def _tiny(**options: Any) -> Policy:
    """The embedded model of 1.45 million parameters."""
    return _transformers(str(EMBEDDED["tiny"]), **options)


@POLICIES.register("tiny-coarse")
def _tiny_coarse(**options: Any) -> Policy:
    """The embedded model as it is before it can tell the relatives of ``scenes-ssg`` apart: a start with room."""
    return _transformers(str(EMBEDDED["tiny-coarse"]), **options)


@POLICIES.register("vllm")
def _vllm(spec: str, **options: Any) -> Policy:
    """A model that vLLM runs, ``vllm:PATH_OR_ID``, or serves already, ``vllm:PATH_OR_ID@http://host:port``."""
    require_training_extra(f"policy vllm:{spec}")
    model, at, url = spec.partition("@http")
    names = {field.name for field in dataclasses.fields(VllmSettings)}
    given = {name: options.pop(name) for name in names & options.keys()}
    settings = build(VllmSettings, f"policy vllm:{spec}", **given | ({"server": f"http{url}"} if at else {}))
    if not settings.server:
        require_vllm()
    path = EMBEDDED.get(model, model)
    require_reachable(path)
    from anatomy_r1.agents.policies.vllm import VllmPolicy

    return build(VllmPolicy, f"policy vllm:{spec}", path, settings=settings, **options)
