"""What OpenEnv's tools start: ``uvicorn server.app:app``."""

from anatomy_r1.integrations.openenv_server import app

__all__ = ["app"]
