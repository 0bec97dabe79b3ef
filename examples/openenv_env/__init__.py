"""The environment, as OpenEnv imports it."""

from anatomy_r1.integrations.openenv_client import AnatomyAction, AnatomyEnv, AnatomyObservation

__all__ = ["AnatomyAction", "AnatomyEnv", "AnatomyObservation"]
