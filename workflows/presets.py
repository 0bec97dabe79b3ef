"""Settings that come with the package, each for a model and the hardware it fits on."""

import difflib
from pathlib import Path

import anatomy_r1
from anatomy_r1.core import AnatomyError

FOLDER = Path(anatomy_r1.__file__).parent / "configs"
"""Presets, and in ``accelerate/`` ready configurations of its launcher."""


def presets() -> dict[str, Path]:
    """Files of the presets by name."""
    return {path.stem: path for path in sorted(FOLDER.glob("*.toml"))}


def find_config(name: str) -> Path:
    """The TOML file of that path, or the preset of that name.

    Raises:
        AnatomyError: there is neither.
    """
    path, known = Path(name), presets()
    if path.is_file():
        return path
    if name in known:
        return known[name]
    near = difflib.get_close_matches(path.stem if path.suffix == ".toml" else name, known, n=1)
    hint = f" Did you mean the preset {near[0]}?" if near else ""
    raise AnatomyError(f"{name}: config file not found.{hint}\nPresets: {', '.join(known)}.")
