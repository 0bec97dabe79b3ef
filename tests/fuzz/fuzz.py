"""Fuzz a target by coverage, with atheris: `python tests/fuzz/fuzz.py judges|jsonl SECONDS` (see `make fuzz`).

What breaks is kept in build/fuzz/NAME, with what was found to be interesting; the same command begins with it again.
"""

import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["anatomy_r1"]):
    from targets import TARGETS, seeds


def main(name: str, seconds: int) -> None:
    """Fuzz one target for so long."""
    folder = Path("build/fuzz") / name
    (folder / "corpus").mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(seeds(name)):
        (folder / "corpus" / f"seed-{number:04d}").write_bytes(seed)
    options = [
        f"-max_total_time={seconds}",
        "-max_len=1024",
        "-timeout=20",
        "-rss_limit_mb=4096",
        "-print_final_stats=1",
    ]
    atheris.Setup([sys.argv[0], str(folder / "corpus"), f"-artifact_prefix={folder}/", *options], TARGETS[name])
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
