"""What OpenEnv's tools look for: the client and what goes over the wire."""

from anatomy_r1.integrations.openenv_client import AnatomyAction, AnatomyEnv, AnatomyObservation

__all__ = ["AnatomyAction", "AnatomyEnv", "AnatomyObservation"]
