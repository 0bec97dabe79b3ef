"""What the newest versions break: runs the suite, and puts packages back to the lock until what failed passes again.

For `make test-newest`, which has just filled the environment that this runs in. Arguments go to pytest.
"""

import json
import re
import subprocess
import sys
import tempfile
from collections import Counter
from importlib import metadata
from pathlib import Path
from xml.etree import ElementTree

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check"]


def changed() -> dict[str, tuple[str, str]]:
    """Packages that are not as the lock has them: their versions there and here."""
    found = {}
    for line in (ROOT / "locks/dev.txt").read_text(encoding="utf-8").splitlines():
        requirement = Requirement(line)
        locked = str(requirement.specifier).removeprefix("==")
        if requirement.marker is None or requirement.marker.evaluate():
            here = _version(requirement.name)
            if here not in (locked, None):
                found[canonicalize_name(requirement.name)] = (locked, str(here))
    return found


def held_back() -> dict[str, tuple[str, str]]:
    """Packages of which there is a newer version, which some bound keeps out: the versions here and the newest."""
    listed = subprocess.run(
        [*PIP, "list", "--outdated", "--format", "json"], capture_output=True, text=True, check=True
    )
    rows = json.loads(listed.stdout[listed.stdout.index("[") :])
    return {canonicalize_name(row["name"]): (row["version"], row["latest_version"]) for row in rows}


def run_tests(tests: list[str]) -> dict[str, ElementTree.Element]:
    """Those of the tests that fail, with pytest's account of each; "collection" and the like where none ran."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        options = ["--quiet", "--junitxml", str(report), "-o", "junit_family=xunit1"]
        ended = subprocess.run([sys.executable, "-m", "pytest", *options, *tests], cwd=ROOT, check=False).returncode
        cases = ElementTree.parse(report).iter("testcase") if report.exists() else ()
        wrong = [
            (case, outcome) for case in cases for tag in ("failure", "error") if (outcome := case.find(tag)) is not None
        ]
    if ended not in (0, 1) and not wrong:
        wrong = [(ElementTree.Element("testcase"), ElementTree.Element("error", message=f"pytest ended with {ended}"))]
    return {_node(case): outcome for case, outcome in wrong}


def suspects(failed: dict[str, ElementTree.Element], packages: dict[str, tuple[str, str]]) -> list[str]:
    """The packages, first those whose files most of the failures' tracebacks go through."""
    seen: Counter[str] = Counter()
    owners = metadata.packages_distributions()
    for outcome in failed.values():
        modules = set(re.findall(r"site-packages/(\w+)", outcome.text or ""))
        seen.update({canonicalize_name(name) for module in modules for name in owners.get(module, ())})
    return sorted(packages, key=lambda name: -seen[name])


def main(arguments: list[str]) -> int:
    """Run the suite, find what broke it, and say so; the exit status is pytest's."""
    packages, late = changed(), held_back()
    failed = run_tests(["-n", "2", "--dist", "worksteal", *arguments])
    blamed: dict[str, dict[str, ElementTree.Element]] = {}
    left = dict(failed)
    for name in suspects(failed, packages):
        if not left:
            break
        locked, here = packages[name]
        print(f"\n{len(left)} tests fail; the same with {name} {locked} in place of {here}:", flush=True)
        subprocess.run([*PIP, "install", "--quiet", "--no-deps", f"{name}=={locked}"], check=True)
        still = run_tests([] if "" in left else list(left))
        if mended := {test: outcome for test, outcome in left.items() if test not in still}:
            blamed[name] = mended
        left = {test: outcome for test, outcome in left.items() if test in still}

    print("\n== Newest versions ==")
    _list("not as in locks/dev.txt (there, here)", packages)
    _list("held back by a bound (here, newest)", late)
    for name, tests in blamed.items():
        _tell(f"{name} {packages[name][1]} breaks {len(tests)} tests, which pass with {packages[name][0]}", tests)
    if left:
        _tell(f"{len(left)} tests fail whatever the versions", left)
    print("every test passes" if not failed else "")
    return 1 if failed else 0


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _node(case: ElementTree.Element) -> str:
    file, name = case.get("file"), case.get("name", "")
    if file is None:  # a file that can't be collected is named like a module
        return name.replace(".", "/") + ".py" if name else ""
    inner = (case.get("classname") or "").removeprefix(file.removesuffix(".py").replace("/", ".")).strip(".")
    return "::".join(part for part in (file, *inner.split("."), name) if part)


def _list(heading: str, packages: dict[str, tuple[str, str]]) -> None:
    print(f"{heading}: {', '.join(f'{name} {a} → {b}' for name, (a, b) in packages.items()) or 'none'}")


def _tell(heading: str, tests: dict[str, ElementTree.Element]) -> None:
    print(f"{heading}:")
    for test, outcome in tests.items():
        first = (outcome.get("message") or "").strip().splitlines()
        print(f"  {test or 'pytest'}\n    {first[0][:200] if first else ''}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
