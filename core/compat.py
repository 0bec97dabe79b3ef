"""What the hub's client and the data-set library have no public way for."""

import sys


def go_offline() -> None:
    """Keep this process to the hub's cache, where ``HF_HUB_OFFLINE`` comes too late: it is read on import.

    huggingface_hub 1.x reads it into this constant; datasets 4.x and 5.x take that into their own.
    """
    for name, module in (("huggingface_hub", "constants"), ("datasets", "config")):
        if name in sys.modules:
            sys.modules[f"{name}.{module}"].HF_HUB_OFFLINE = True  # type: ignore[attr-defined]
