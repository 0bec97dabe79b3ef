"""A CT as large as a scanner makes it: memory and processor time of opening it and of its questions.

    OMP_NUM_THREADS=1 python benchmarks/large_volume.py TOTALSEGMENTATOR/ct [--shape 512 512 400] [--plane sagittal]

A small case of TotalSegmentator's is brought to the shape by nearest neighbours, with noise, as real scans compress
badly; masks that are empty in it are filled with another one's voxels, moved, so that all of them count. Each phase
runs in a process of its own. Processor time is measured, as machines are shared.
"""

import json
import resource
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated, Any

import nibabel
import numpy as np
import tyro
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from anatomy_r1.banks import open_bank

NOISE = 12
"""Standard deviation of the noise in Hounsfield units."""


@dataclass
class Settings:
    """What to measure."""

    case: Annotated[Path, tyro.conf.Positional]
    """Folder with ``ct.nii.gz`` and ``segmentations``."""
    shape: tuple[int, int, int] = (512, 512, 400)
    plane: str = "axial"
    questions: int = 60
    """Asked in each order."""
    out: Path = Path("runs/large-volume")
    """Where the large case and its packed form go; a large case that is there is used again."""
    options: dict[str, str] = field(default_factory=dict)
    """More options of the bank."""


def enlarge(case: Path, shape: tuple[int, int, int], out: Path) -> None:
    """Write a case at another resolution."""
    rng = np.random.default_rng(0)
    (out / "segmentations").mkdir(parents=True)
    whole = nibabel.load(case / "ct.nii.gz")
    affine = whole.affine @ np.diag([*(old / new for old, new in zip(whole.shape, shape, strict=True)), 1.0])
    places = np.ix_(*(np.arange(new) * old // new for old, new in zip(whole.shape, shape, strict=True)))

    def save(voxels: NDArray[Any], name: str) -> None:
        nibabel.save(nibabel.Nifti1Image(voxels, affine), out / name)

    image = np.asarray(whole.dataobj)[places].astype(np.int16)
    for at in range(shape[2]):
        image[..., at] += np.rint(rng.normal(0, NOISE, shape[:2])).astype(np.int16)
    save(image, "ct.nii.gz")
    masks = {path.name: np.asarray(nibabel.load(path).dataobj) > 0 for path in sorted(case.glob("segmentations/*.gz"))}
    filled = [mask for mask in masks.values() if mask.any()]
    for at, (name, mask) in enumerate(masks.items()):
        if not mask.any():
            mask = np.roll(filled[at % len(filled)], rng.integers(-20, 20, 3), axis=(0, 1, 2))
        save(mask.astype(np.uint8)[places], f"segmentations/{name}")


@contextmanager
def measured(name: str, count: int, found: list[dict[str, Any]]) -> Iterator[None]:
    """Add processor seconds, seconds and peak memory of a block to ``found``."""
    begin, wall = time.process_time(), time.perf_counter()
    yield
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 10 if sys.platform != "darwin" else 1 << 20)
    spent = time.process_time() - begin
    found.append({"phase": name, "count": count, "cpu": spent, "wall": time.perf_counter() - wall, "peak_mib": peak})


def opening(settings: Settings, name: str) -> list[dict[str, Any]]:
    """Open the bank."""
    found: list[dict[str, Any]] = []
    with measured(name, 1, found):
        opened(settings)
    return found


def opened(settings: Settings) -> Any:
    options = {"plane": settings.plane, "cache": settings.out / "cache"} | settings.options
    recipe = {"images": "*/ct.nii.gz", "labels": "{folder}/segmentations", "modality": "CT", "size": 512}
    return open_bank(f"masks:{settings.out}", **recipe, **options)


def asking(settings: Settings, name: str) -> list[dict[str, Any]]:
    """Ask questions, with their images, evenly from the whole bank, in order or at random."""
    bank, found = opened(settings), []
    order = np.linspace(0, len(bank) - 1, settings.questions).astype(int)
    if name == "at random":
        order = np.random.default_rng(0).permutation(order)
    slowest = 0.0
    with measured(name, len(order), found):
        for at in order.tolist():
            begin = time.process_time()
            bank.question(at).pixels()
            slowest = max(slowest, time.process_time() - begin)
    return [row | {"slowest": slowest} for row in found]


PHASES: dict[str, Callable[[Settings, str], list[dict[str, Any]]]] = {
    "first opening": opening,
    "later opening": opening,
    "in order": asking,
    "at random": asking,
}


def main(settings: Settings) -> None:
    """Enlarge the case, measure each phase, print the figures and keep them."""
    if not (settings.out / "case").is_dir():
        enlarge(settings.case, settings.shape, settings.out / "case")
    for path in settings.out.glob("cache/*"):
        path.unlink()
    rows: list[dict[str, Any]] = []
    for name, phase in PHASES.items():
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            rows += pool.submit(phase, settings, name).result()
    table = Table("phase", "CPU s each", "slowest", "s each", "peak MiB")
    for row in rows:
        each = (row["cpu"] / row["count"], row.get("slowest", 0.0), row["wall"] / row["count"])
        table.add_row(row["phase"], *(f"{value:.3f}" for value in each), f"{row['peak_mib']:.0f}")
    Console().print(table)
    packed = sum(path.stat().st_size for path in settings.out.glob("cache/*"))
    print(f"packed: {packed / (1 << 20):.0f} MiB")
    figures = {"shape": settings.shape, "plane": settings.plane, "packed": packed, "phases": rows}
    (settings.out / f"{settings.plane}.json").write_text(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main(tyro.cli(Settings))
