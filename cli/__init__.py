"""The command line ``anatomy-r1``."""

from anatomy_r1.cli.main import main

__all__ = ["main"]
