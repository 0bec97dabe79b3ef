"""What the hub's client, the data-set library and Python's warnings have no better way for."""

import sys
import warnings

from anatomy_r1.core.markup import clean


def go_offline() -> None:
    """Keep this process to the hub's cache, where ``HF_HUB_OFFLINE`` comes too late: it is read on import.

    huggingface_hub 1.x reads it into this constant; datasets 4.x and 5.x take that into their own.
    """
    for name, module in (("huggingface_hub", "constants"), ("datasets", "config")):
        if name in sys.modules:
            sys.modules[f"{name}.{module}"].HF_HUB_OFFLINE = True  # type: ignore[attr-defined]


def show_warnings_in_words() -> None:
    """Show warnings without the file and the line of code that gave them: Python lets this function be replaced."""
    warnings.formatwarning = _in_words


def _in_words(message: Warning | str, *_: object, **__: object) -> str:
    return f"warning: {clean(str(message))}\n"
