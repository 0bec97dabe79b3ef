"""Every file of a user's goes through the guarded reader: no pipe is waited for, no device is read to its end."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = ("core", "banks", "curricula", "envs", "agents", "evaluation", "workflows", "cli")
OUR_OWN = {
    "core/files.py": "the guarded reader itself, and what appends to files that are ours",
    "core/locks.py": "the lock",
    "agents/training/run_folder.py": "what a checkpoint wrote, opened to be flushed",
    "evaluation/live/pages.py": "a template of the package",
    "evaluation/reports/preview.py": "a template of the package",
    "evaluation/reports/report.py": "a template of the package",
    "evaluation/records/log.py": "an evaluation's own rollouts, opened to append to them and to cut a torn end off",
    "workflows/running.py": "the settings of a run that is to be emptied, checked to be a file",
    "cli/main.py": "where the rest of the output goes once nobody reads it",
}
READERS = ("nibabel.load", "np.load", "load_file", "pydicom.dcmread", "Pil.open")
"""Of other packages, which take a path or an open file."""


def calls(function):
    for node in ast.walk(function):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def test_nothing_of_a_users_is_opened_past_the_guarded_reader():
    found = set()
    for room in ROOMS:
        for path in sorted((ROOT / room).rglob("*.py")):
            for called, _ in calls(ast.parse(path.read_text(encoding="utf-8"))):
                if called in ("open", "os.open") or called.rpartition(".")[2] in ("open", "read_text", "read_bytes"):
                    library = called in READERS or called in ("read_text", "read_bytes", "gzip.open")
                    found |= set() if library else {path.relative_to(ROOT).as_posix()}
    assert found == set(OUR_OWN), "read it with core's read_text, read_bytes, read_json, read_jsonl or open_regular"


@pytest.mark.parametrize("reader", READERS)
def test_readers_of_other_packages_are_given_regular_files(reader):
    seen = 0
    for path in (path for room in ROOMS for path in sorted((ROOT / room).rglob("*.py"))):
        for function in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(function, ast.FunctionDef):
                continue
            called = dict(calls(function))
            if reader not in called:
                continue
            seen += 1
            given = ast.unparse(called[reader].args[0])
            in_memory = "BytesIO" in given or given == "buffer"
            assert in_memory or "open_regular" in called, f"{path}: {function.name}"
    assert seen
