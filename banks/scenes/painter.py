"""How a layout looks through a laparoscope: wet, bulging organs lit from the camera, in any resolution.

The textures are smooth fields over the whole frame, defined by control values at a fixed lattice, so the same scene
looks the same at 96 and at 448 pixels.
"""

import numpy as np
from numpy.typing import NDArray

from anatomy_r1.banks.scenes.layout import RIM, Layout, blur, grid, lattice, off_axis, smooth
from anatomy_r1.banks.scenes.vocabulary import Vocabulary
from anatomy_r1.core import Image

Field = NDArray[np.float32]
_VESSEL = np.array([0.55, 0.08, 0.08], dtype=np.float32)[:, None, None]


def paint(layout: Layout, rng: np.random.Generator, size: int) -> Image:
    """Draw a layout as uint8 RGB ``(size, size, 3)``; the draws from ``rng`` don't depend on ``size``."""
    labels, border = layout.regions(size)
    table = layout.vocabulary.table
    coarse_labels, coarse = layout.regions(24)
    noise = {knots: smooth(lattice(rng, knots), size).astype(np.float32) for knots in (4, 9, 20, 44)}
    angles = rng.uniform(0, np.pi, len(table)).astype(np.float32)
    lamp = 0.5 + rng.uniform(-0.12, 0.12, 2)
    colours = _colours(layout.vocabulary, rng)
    texture = [column[labels] for column in table[:, 3:].T]
    height, tint, vessels = _relief(texture, [np.cos(angles)[labels], np.sin(angles)[labels]], noise, size)
    bulge = 1 - (1 - np.clip(coarse / 0.16, 0, 1)) ** 2
    dome = blur(bulge * np.where(coarse_labels > 0, 1, 0.3), size).astype(np.float32)
    edge = np.clip(border / 0.02, 0, 1)
    diffuse, shine = _light(0.11 * dome + 0.012 * edge + height * edge + 0.035 * noise[4], lamp, size)
    diffuse *= 0.4 + 0.6 * edge
    picture = colours.T.take(labels, axis=1) * (1 + tint)  # (3, size, size)
    picture += vessels * (_VESSEL - picture)
    for placed in layout.instruments:
        placed.shade(diffuse)
    picture *= diffuse
    picture += texture[5] * shine * edge
    for placed in layout.instruments:
        placed.draw(picture)
    return _through_endoscope(picture, size)


def _colours(vocabulary: Vocabulary, rng: np.random.Generator) -> Field:
    """Colour of every row of the table in this scene: each organ varies alone, lamp and camera vary all alike."""
    own = vocabulary.table[:, :3]
    moves = rng.normal(0, 1 / vocabulary.distance, (len(own), 1)).clip(-0.3, 0.6)
    towards_twin = moves * (own[vocabulary.twins] - own)
    tint, gain = rng.uniform(0.95, 1.05, own.shape), rng.uniform(0.85, 1.15, (len(own), 1))
    camera = rng.uniform(0.92, 1.08) * rng.uniform(0.97, 1.03, 3)
    return np.asarray((own + towards_twin) * tint * gain * camera, dtype=np.float32)


def _relief(texture: list[Field], axes: list[Field], noise: dict[int, Field], size: int) -> tuple[Field, Field, Field]:
    """Height, brightness change and vessel share of the tissue, each ``(size, size)``."""
    grain, lobules, folds, streaks, vessels, _ = texture
    x, y = (axis.astype(np.float32) for axis in grid(size))
    along = x * axes[0] + y * axes[1]
    across = y * axes[0] - x * axes[1]
    fold = np.sin(2 * np.pi * 10 * along + 3.0 * noise[4] + 2.0 * noise[9])
    fibre = np.sin(2 * np.pi * 26 * along + 5.0 * noise[9]) * (0.6 + 0.8 * noise[20])
    half, third = 0.5 * along, 0.866 * across
    waves = [
        np.cos(2 * np.pi * 11 * axis + 4 * noise[9] + 2 * noise[20]) for axis in (along, third - half, -third - half)
    ]
    lobule = (waves[0] + waves[1] + waves[2]) / 4.5 + 1 / 3
    height = 0.004 * folds * fold + 0.009 * lobules * lobule + 0.0012 * grain * noise[44] + 0.0006 * streaks * fibre
    tint = 0.10 * folds * fold + 0.26 * grain * noise[44] + 0.14 * streaks * fibre + 0.20 * lobules * (lobule - 0.7)
    line = np.clip(1 - np.abs(noise[9] + 0.25 * noise[20]) / 0.035, 0, 1) * np.clip(noise[4] * 4 + 0.6, 0, 1)
    return height, tint + 0.10 * noise[9], 0.55 * vessels * line


def _light(relief: Field, lamp: NDArray[np.float64], size: int) -> tuple[Field, Field]:
    """Diffuse and specular light on a height field (shares of the frame), from a lamp beside the camera."""
    slope_y, slope_x = np.gradient(relief * size)
    x, y = grid(size)
    to_x, to_y = ((centre - axis).astype(np.float32) for centre, axis in zip(lamp, (x, y), strict=True))
    norm = np.sqrt(1 + slope_x**2 + slope_y**2)
    far = np.sqrt(to_x**2 + to_y**2 + 0.36)
    facing = (0.6 - slope_x * to_x - slope_y * to_y) / (norm * far)
    fall = 1.12 - 0.85 * (to_x**2 + to_y**2)
    half_x, half_y, half_z = to_x / far, to_y / far - 0.16, 0.6 / far + 1
    half = np.sqrt(half_x**2 + half_y**2 + half_z**2)
    mirror = ((half_z - slope_x * half_x - slope_y * half_y) / (norm * half)).clip(1e-3, 1)
    return (0.12 + 0.95 * facing.clip(0, 1)) * fall, np.exp(70 * np.log(mirror)) * fall


def _through_endoscope(picture: Field, size: int) -> Image:
    """Close the round aperture with a soft rim, and quantise."""
    aperture = np.clip((RIM - off_axis(size)) / 0.012 + 0.5, 0, 1).astype(np.float32)
    picture *= 255 * aperture
    return np.ascontiguousarray((picture + 0.5).clip(0, 255).astype(np.uint8).transpose(1, 2, 0))
