"""What structures look like, measured from pixels: features pooled over each structure's regions.

Where a bank knows which pixel belongs to what (``bank.regions(index)``), features are pooled over each structure's own
region. Elsewhere the whole image stands for the structure that is the question's answer.
"""

import logging
from collections import defaultdict
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from anatomy_r1.banks import Bank, Segmented
from anatomy_r1.banks.generate import Regions
from anatomy_r1.core import AnatomyError, Floats, Image, normalise

Encoder = Callable[[Image], Floats]
"""Image ``(H, W, 3)`` → feature map ``(h, w, F)`` of any resolution: a vision tower's patches, for example."""
Labels = NDArray[np.integer]

LEAST, MOST = 96, 768
"""Questions looked at: at least and at most; between the two, until every structure was seen ``ENOUGH`` times."""
ENOUGH = 8
log = logging.getLogger(__name__)


def visual_features(bank: Bank, encode: Encoder | None = None) -> Floats:
    """Mean features of the bank's structures ``(K, F)``, less the mean over all; 0 for those that were not seen.

    Args:
        bank: which structures, and where to see them.
        encode: default: :func:`colour_and_texture`.

    Raises:
        AnatomyError: fewer than two structures occur in the questions looked at.
    """
    seen: dict[str, list[Floats]] = defaultdict(list)
    wanted = [normalise(name) for name in bank.structures]
    count = min(len(bank), MOST)
    for number in range(count):
        if number >= LEAST and all(len(seen[name]) >= ENOUGH for name in wanted):
            break
        # Steps of a golden ratio of the bank: evenly spread wherever the loop ends.
        index = number if count == len(bank) else int(number * 0.6180339887 % 1 * len(bank))
        for name, vector in _look(bank, index, encode or colour_and_texture):
            seen[normalise(name)].append(vector)
    missing = [name for name, key in zip(bank.structures, wanted, strict=True) if not seen[key]]
    said = f"similarity 'visual': {len(missing)} of {len(wanted)} structures of bank {bank.name!r} occur in none of the"
    if len(wanted) - len(missing) < min(2, len(wanted)):
        raise AnatomyError(f"{said} {count} questions looked at; use 'names', 'ontology' or 'csv:PATH'.")
    if missing:
        log.warning("%s %d questions looked at: %s. They count as neither alike nor unlike.", said, count, missing)
    means = {name: np.mean(seen[name], axis=0) for name in wanted if seen[name]}
    middle = np.mean(list(means.values()), axis=0)
    return np.stack([means.get(name, middle) - middle for name in wanted])


def _look(bank: Bank, index: int, encode: Encoder) -> Iterator[tuple[str, Floats]]:
    """What one question's image tells about which structures."""
    regions: Regions | None = bank.regions(index) if isinstance(bank, Segmented) else None
    if regions is None:
        question = bank.question(index)
        yield question.structure, encode(question.pixels()).mean(axis=(0, 1))
        return
    features = encode(regions.pixels)
    labels = _nearest(regions.labels, features.shape[:2])
    for value in np.unique(labels).tolist():
        if value in regions.names:
            yield regions.names[value], features[labels == value].mean(axis=0)


def _nearest(labels: Labels, shape: tuple[int, ...]) -> Labels:
    sizes = zip(labels.shape, shape, strict=True)
    rows, columns = (((np.arange(wanted) + 0.5) * have / wanted).astype(int) for have, wanted in sizes)
    return labels[np.ix_(rows, columns)]


def colour_and_texture(image: Image) -> Floats:
    """Brightness, red-green, yellow-blue, and three times its contrast at three scales ``(H, W, 6)``."""
    red, green, blue = np.moveaxis(image.astype(np.float64) / 255, -1, 0)
    bright = (red + green + blue) / 3
    contrasts, smooth = [], bright
    for reach in (1, 2, 4):
        smoother = _blur(smooth, reach)
        contrasts.append(3 * np.sqrt(_blur((smooth - smoother) ** 2, 2 * reach)))
        smooth = smoother
    return np.stack([bright, red - green, (red + green) / 2 - blue, *contrasts], axis=-1)


def _blur(values: Floats, reach: int) -> Floats:
    """Mean over squares of ``2 · reach + 1`` pixels, edges repeated."""
    for axis in (0, 1):
        width = 2 * reach + 1
        padded = np.pad(values, [(reach + 1, reach) if a == axis else (0, 0) for a in (0, 1)], mode="edge")
        sums = padded.cumsum(axis=axis)
        head, tail = np.split(sums, [width], axis=axis)[1], np.split(sums, [-width], axis=axis)[0]
        values = (head - tail) / width
    return values
