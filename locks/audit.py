"""Known vulnerabilities in what the locks hold, by pip-audit, and the licences of what is installed, as a list.

For `make audit`: `python locks/audit.py PIP-AUDIT`. Exits with 1 where something is known, and with 2 where nothing
could be looked up: an empty answer is no clean bill.
"""

import json
import subprocess
import sys
from collections import Counter
from importlib import metadata
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
LICENCES = ROOT / "build/licences.csv"
_LONGEST = 60
"""Characters of a licence; some packages give its whole text."""


def audited(tool: str, lock: Path) -> list[dict[str, Any]]:
    """What pip-audit says of each package of a lock; raises RuntimeError with its reason where it says nothing."""
    line = [tool, "--requirement", str(lock), "--no-deps", "--disable-pip", "--format", "json"]
    done = subprocess.run(line, capture_output=True, text=True)
    try:
        return list(json.loads(done.stdout)["dependencies"])
    except (ValueError, KeyError):
        raise RuntimeError((done.stderr.strip().splitlines() or ["no answer"])[-1][:200]) from None


def verdict(packages: list[dict[str, Any]], lock: str) -> tuple[int, list[str]]:
    """Exit code and lines of a lock: what is known to be vulnerable, what was not looked up."""
    bad = [one for one in packages if one.get("vulns")]
    known = [f"{lock}: {one['name']} {one['version']}: {', '.join(v['id'] for v in one['vulns'])}" for one in bad]
    skipped = [one["name"] for one in packages if "skip_reason" in one]
    if len(skipped) == len(packages):
        return 2, [f"{lock}: the service of vulnerabilities knows none of its {len(packages)} packages."]
    lines = [f"{lock}: {len(packages) - len(skipped)} packages looked up, {len(known)} with known vulnerabilities."]
    missed = [f"{lock}: not looked up: {', '.join(skipped)}"] if skipped else []
    return int(bool(known)), [*known, *missed, *lines]


def licence(package: metadata.Distribution) -> str:
    """A package's licence in a line, from what its metadata says."""
    told = package.metadata
    kinds = [line for line in told.get_all("Classifier", []) if line.startswith("License ::")]
    listed = ", ".join(line.rpartition(" :: ")[2] for line in kinds)
    found = told.get("License-Expression") or listed or told.get("License") or "not said"
    return " ".join(found.split())[:_LONGEST]


def write_licences(path: Path = LICENCES) -> Counter[str]:
    """Write a line per installed package; returns how often each licence occurs."""
    rows = {package.name.lower(): (package.version, licence(package)) for package in metadata.distributions()}
    path.parent.mkdir(exist_ok=True)
    lines = [f'{name},{version},"{found}"' for name, (version, found) in sorted(rows.items())]
    path.write_text("\n".join(["package,version,licence", *lines]) + "\n", encoding="utf-8")
    return Counter(found for _, found in rows.values())


def main(tool: str) -> int:
    """Print both."""
    for found, count in write_licences().most_common():
        print(f"{count:4}  {found}")
    print(f"licences: {LICENCES.relative_to(ROOT)}")
    code = 0
    for lock in sorted((ROOT / "locks").glob("*.txt")):
        try:
            found_code, lines = verdict(audited(tool, lock), lock.name)
        except RuntimeError as error:
            found_code, lines = 2, [f"{lock.name}: the service of vulnerabilities gave no answer: {error}"]
        print("\n".join(lines))
        code = max(code, found_code)
        if found_code == 2:
            print("Nothing was looked up; run `make audit` where pypi.org can be reached.")
            break
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
