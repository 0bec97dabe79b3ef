"""How fast banks are: opening a set of OmniMedVQA's size, questions a second, images a second beside bare Pillow.

``python benchmarks/bank_throughput.py [--threads 2] [--rows 128000]``; files are made in a temporary folder. Rates are
the best of several rounds, as other processes on a machine only ever slow one down.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

from anatomy_r1.banks import MasksBank, open_bank
from anatomy_r1.core import Question, stream
from anatomy_r1.envs import AnatomyVQAVectorEnv

ORGANS = ("Liver", "Gut", "Omentum", "Gallbladder", "Spleen", "Kidney", "Stomach", "Lung", "Heart", "Aorta", "Pancreas")
SIZE = (854, 480)
OPEN = """
import resource, sys, time
from anatomy_r1.banks import open_bank
start, used = time.perf_counter(), time.process_time()
bank = open_bank("omnimedvqa:" + sys.argv[1])
took = time.perf_counter() - start, time.process_time() - used
print(len(bank), *took, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def best(work: Callable[[], int], rounds: int = 5) -> float:
    """Units per second of the best round."""
    rates = []
    for _ in range(rounds):
        start = time.perf_counter()
        rates.append(work() / (time.perf_counter() - start))
    return max(rates)


def write_omnimedvqa(root: Path, rows: int, files: int = 73) -> None:
    """Rows in the native layout, with empty files for images: opening must find them, not read them."""
    rng = np.random.default_rng(0)
    vocabulary = [
        f"{organ} {part}" for organ in ORGANS for part in ("tissue", "wall", "lobe", "vein", "artery", "duct")
    ]
    (root / "QA_information/Open-access").mkdir(parents=True)
    for file in range(files):
        name = f"Source {file:02d}"
        (root / "Images" / name).mkdir(parents=True)
        entries = []
        for row in range(rows // files + (file < rows % files)):
            image = f"Images/{name}/{name.lower()}_{row:06d}.png"
            (root / image).touch()
            options = [vocabulary[at] for at in rng.permutation(len(vocabulary))[:4]]
            letters = {f"option_{letter}": text for letter, text in zip("ABCD", options, strict=True)}
            entries.append(
                {
                    "dataset": name,
                    "question_id": f"{name}_{row:05d}",
                    "question_type": "Anatomy Identification",
                    "question": f"What is depicted in image type {row % 400}?",
                    "gt_answer": options[row % 4],
                    "image_path": image,
                    **letters,
                    "modality_type": "CT(Computed Tomography)",
                }
            )
        (root / "QA_information/Open-access" / f"{name}.json").write_text(json.dumps(entries, indent=4))


def measure_opening(root: Path, rows: int) -> None:
    write_omnimedvqa(root, rows)
    runs = [
        subprocess.run([sys.executable, "-c", OPEN, str(root)], capture_output=True, text=True, check=True)
        for _ in range(3)
    ]
    found = [[float(value) for value in run.stdout.split()] for run in runs]
    count, seconds, used, memory = min(found, key=lambda values: values[1])
    print(
        f"open omnimedvqa: {count:,.0f} rows in {seconds:.2f} s ({used:.2f} s of the processor), "
        f"peak memory of the process {memory:.0f} MiB"
    )


def write_frames(root: Path, count: int, suffix: str) -> list[Path]:
    """Frames of about CholecT45's size, with the detail of a real picture."""
    bank = open_bank("scenes", split="train", size=480)
    rng = np.random.default_rng(1)
    paths = [root / f"{number:04d}.{suffix}" for number in range(count)]
    for number, path in enumerate(paths):
        scene = Image.fromarray(bank.question(number).pixels()).resize(SIZE, Image.Resampling.BICUBIC)
        noisy = np.asarray(scene, dtype=np.int16) + rng.normal(0, 4, (SIZE[1], SIZE[0], 3)).astype(np.int16)
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(path)
    return paths


def with_pillow(paths: list[Path], threads: int) -> int:
    def decode(path: Path) -> int:
        with Image.open(path) as image:
            return int(np.asarray(image.convert("RGB")).shape[0] > 0)

    with ThreadPoolExecutor(threads) as pool:
        return sum(pool.map(decode, paths))


@contextmanager
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def measure_decoding(root: Path, threads: int, count: int) -> None:
    for suffix in ("jpg", "png"):
        paths = write_frames(root, count, suffix)
        questions = [
            Question(path.name, path, "What?", ("liver", "gut"), 0, "liver", "", "", path.name, "") for path in paths
        ]
        raw = ours = 0.0
        for _ in range(6):  # in turns, so that both meet the same weather
            raw = max(raw, best(lambda paths=paths: with_pillow(paths, threads), 1))
            ours = max(ours, best(lambda rows=questions: sum(1 for _ in stream(rows, threads=threads)), 1))
        print(
            f"decode {suffix} {SIZE[0]}×{SIZE[1]}, {threads} threads: Pillow {raw:.0f}/s, "
            f"stream {ours:.0f}/s = {ours / raw:.0%}"
        )


def measure_questions() -> None:
    for name, count in (("scenes", 500), ("brain-atlas", 2000)):
        bank = open_bank(name, split="train")
        bank.question(0).pixels()
        rate = best(lambda bank=bank, count=count: sum(1 for at in range(count) if bank.question(at)), 3)
        print(f"questions of {name}: {rate:,.0f}/s")


def measure_masks(root: Path) -> None:
    rng = np.random.default_rng(0)
    (root / "images").mkdir()
    (root / "labels").mkdir()
    for at in range(24):
        labels = np.kron(rng.integers(0, 7, (8, 8)), np.ones((60, 107), int)).astype(np.uint8)[:, :854]
        Image.fromarray(labels).save(root / f"labels/{at}.png")
        Image.fromarray(rng.integers(0, 255, (480, 854, 3), dtype=np.uint8)).save(root / f"images/{at}.png")
    names = "".join(f"{value},{name}\n" for value, name in enumerate(ORGANS[:6], start=1))
    (root / "labels.csv").write_text("value,name\n" + names)
    start = time.perf_counter()
    bank = MasksBank(root)
    opened = time.perf_counter() - start
    start = time.perf_counter()
    rate = sum(1 for at in range(len(bank)) if bank.question(at)) / (time.perf_counter() - start)
    print(f"masks: 24 frames of 854×480 opened in {opened * 1e3:.0f} ms, {rate:,.0f} questions/s, label maps read")


def measure_environment(root: Path, threads: int) -> None:
    """What a reset costs whose images come from files: eight groups of eight."""
    paths = write_frames(root, 64, "png")
    lines = [
        {"id": path.name, "image": path.name, "stem": "What?", "options": ["liver", "gut"], "answer": 0}
        for path in paths
    ]
    (root / "q.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    env = AnatomyVQAVectorEnv(64, group_size=8, bank=f"jsonl:{root / 'q.jsonl'}", split="all")
    rate = best(lambda: sum(1 for _ in range(5) if env.reset()), 3)
    print(f"reset of 64 places, 8 PNG frames of {SIZE[0]}×{SIZE[1]}: {1e3 / rate:.0f} ms")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rows", type=int, default=128_000)
    parser.add_argument("--frames", type=int, default=60)
    settings = parser.parse_args()
    with folder() as root:
        measure_opening(root, settings.rows)
    with folder() as root:
        measure_decoding(root, settings.threads, settings.frames)
    measure_questions()
    with folder() as root:
        measure_masks(root)
    with folder() as root:
        measure_environment(root, settings.threads)


if __name__ == "__main__":
    main()
