"""A ring that marks a point of an image."""

import numpy as np

from anatomy_r1.core import Image

COLOUR = (255, 32, 32)


def ring(image: Image, x: float, y: float) -> Image:
    """Draw a ring around a point.

    Args:
        image: uint8 ``(H, W, 3)``.
        x: of the centre, as a share of the width.
        y: of the centre, as a share of the height.

    Returns:
        A new array of the same form.
    """
    height, width = image.shape[:2]
    size = (height * width) ** 0.5  # by the shorter edge, it would be a dot on flat scans
    rows, columns = np.arange(height) + 0.5 - y * height, np.arange(width) + 0.5 - x * width
    distance = np.hypot(columns, rows[:, None])
    radius, thickness = size * 3.5 / 96, max(size / 64, 1.0)
    cover = np.clip(thickness / 2 + 0.5 - np.abs(distance - radius), 0, 1)[..., None]
    marked: Image = np.rint(image * (1 - cover) + np.array(COLOUR) * cover).astype(np.uint8)
    return marked
