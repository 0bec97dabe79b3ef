"""What the harness costs: scripted questions per second, overhead over a model, reports, first paint, memory.

Run: python benchmarks/evaluation_speed.py [--quick]
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from anatomy_r1.agents import make_policy
from anatomy_r1.banks import open_bank
from anatomy_r1.evaluation import default_baselines, evaluate, write_report
from anatomy_r1.evaluation.run import open_policy

ORGANS = ("liver", "gut", "omentum", "gallbladder", "cystic plate", "spleen")


def write_bank(folder: Path, count: int) -> str:
    """A jsonl bank of ``count`` questions that share one image file, which nobody opens."""
    rng = np.random.default_rng(0)
    folder.mkdir()
    Image.new("RGB", (32, 32)).save(folder / "frame.png")
    with (folder / "questions.jsonl").open("w") as file:
        for number in range(count):
            options = [str(name) for name in rng.permutation(ORGANS)[:4]]
            answer = int(rng.integers(4))
            row = {
                "id": f"q/{number}",
                "image": "frame.png",
                "stem": f"What is at place {number % 97}?",
                "options": options,
                "answer": answer,
                "structure": options[answer],
                "question_type": "location",
                "modality": "laparoscopy",
                "group_key": f"video-{number // 50}",
                "source": "benchmark",
                "split": "train" if number % 5 == 0 else "test",
            }
            file.write(json.dumps(row) + "\n")
    return f"jsonl:{folder / 'questions.jsonl'}"


def scripted(folder: Path, count: int) -> None:
    bank = open_bank(write_bank(folder / "bank", count))
    beside = default_baselines(bank)
    total = len(bank.split("test"))
    for spec in ("random", "oracle", "noisy-oracle:0.6"):
        for name, baselines in (("no baselines", ()), ("all baselines", beside)):
            started = time.perf_counter()
            out = folder / f"{spec}-{len(baselines)}"
            evaluate(open_policy(spec, bank, 0, {}), bank, out=out, baselines=baselines, gallery=0, batch_size=256)
            rate = total / (time.perf_counter() - started)
            print(f"{spec:<17} {name:<13} {rate:8,.0f} questions/s")


def overhead(folder: Path, limit: int) -> None:
    """Seconds by where they go; what is neither the model's nor the bank's is the harness's."""
    bank = Timed(open_bank("scenes"))
    beside = default_baselines(bank.inner)
    found = evaluate(make_policy("tiny"), bank, limit=limit, out=folder / "tiny", baselines=beside)
    bank_seconds = bank.clock[0]
    rest = found.seconds - found.policy_seconds - bank_seconds
    kept = len(list((folder / "tiny" / "images").glob("*.png")))
    print(f"tiny on {limit} scenes, both controls, baselines, {kept} images kept: {found.seconds:.2f} s")
    print(f"  policy {found.policy_seconds:.2f} s, questions {bank_seconds:.2f} s, harness {rest / found.seconds:.1%}")


class Timed:
    """A bank that knows how long its questions took."""

    def __init__(self, inner: Any, clock: list[float] | None = None) -> None:
        self.inner, self.clock = inner, clock or [0.0]
        self.name, self.splits, self.structures = inner.name, inner.splits, inner.structures
        self.structure_features, self.index_of = inner.structure_features, inner.index_of

    def __len__(self) -> int:
        return len(self.inner)

    def split(self, name: str) -> "Timed":
        return Timed(self.inner.split(name), self.clock)

    def question(self, index: int) -> Any:
        started = time.perf_counter()
        question = self.inner.question(index)
        self.clock[0] += time.perf_counter() - started
        return question


def report(folder: Path, count: int) -> None:
    """A report of ``count`` rollouts with their images, and when a browser shows it."""
    run = folder / "report"
    evaluate(make_policy("noisy-oracle:0.6", bank="scenes"), "scenes", limit=count, out=run, batch_size=256)
    started, used = time.perf_counter(), time.process_time()
    path = write_report(run)
    seconds, used = time.perf_counter() - started, time.process_time() - used
    size = path.stat().st_size / 1e6
    print(f"report of {count:,} rollouts: {seconds:.1f} s ({used:.1f} s of the processor), {size:.1f} MB")
    print(f"  first paint: {first_paint(path)}")


def first_paint(path: Path) -> str:
    """Milliseconds until Chromium shows something of a page, and until its gallery is drawn: best of three."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    try:
        from playwright.sync_api import sync_playwright
    except ModuleNotFoundError:
        chromium = None
    if chromium is None:
        return "not measured; needs playwright and Chromium"
    found = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for _ in range(3):
            page = browser.new_page()
            page.goto(f"file://{path.resolve()}")
            page.locator(".question").first.wait_for()
            drawn = page.evaluate("performance.now()")
            page.wait_for_function("performance.getEntriesByName('first-contentful-paint').length")
            paint = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
            found.append((paint, drawn))
            page.close()
        browser.close()
    paint, drawn = min(found)
    return f"{paint:.0f} ms; gallery drawn by {drawn:.0f} ms"


def memory(folder: Path) -> None:
    code = (
        "import sys; from anatomy_r1.agents import make_policy; from anatomy_r1.evaluation import evaluate;"
        "from anatomy_r1.banks import open_bank; from pathlib import Path;"
        "bank = open_bank(sys.argv[1]); used = lambda: int(open('/proc/self/statm').read().split()[1]) * 4; most = [0];"
        "before = used(); look = lambda *_: most.append(used());"
        "evaluate(make_policy('random'), bank, out=Path(sys.argv[2]), baselines=(), batch_size=256, gallery=0,"
        " progress=look); look(); print(max(most) - before)"
    )
    for count in (5_000, 20_000, 80_000):
        spec = write_bank(folder / f"memory-{count}", count)
        done = subprocess.run(
            [sys.executable, "-c", code, spec, str(folder / f"out-{count}")], capture_output=True, text=True, check=True
        )
        kilobytes = int(done.stdout)
        each = kilobytes / count * 1280
        print(f"{count * 4 // 5:>7,} questions: {kilobytes / 1024:6.1f} MB beyond the bank, {each:.0f} bytes each")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    with tempfile.TemporaryDirectory() as name:
        scripted(Path(name), 2_500 if quick else 12_500)
        report(Path(name), 2_000 if quick else 10_000)
        overhead(Path(name), 40 if quick else 400)
        memory(Path(name))
