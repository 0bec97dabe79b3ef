"""Nothing of the user's or ours is taken for markup, an emoji or a command to the terminal."""

import ast
import io
import re
from pathlib import Path

import pytest

from anatomy_r1.cli import console as printing

ROOT = Path(__file__).parents[2]
ROOMS = ("core", "banks", "curricula", "envs", "agents", "evaluation", "workflows", "cli")
FILES = [path for room in ROOMS for path in sorted((ROOT / room).rglob("*.py"))]
MARKUP = re.compile(r"\[(/|/?(bold|red|yellow|green|dim)[ \w]*)\]")
ODD = "r[/]x [bold]y[/bold] :train: pip install 'anatomy-r1[report]' [/answer] \\\\[z]"


@pytest.fixture(params=[False, True], ids=["pipe", "terminal"])
def out(request, monkeypatch):
    """What is printed, to a pipe and to a terminal (without its colours)."""
    written = io.StringIO()
    made = printing.PlainConsole(file=written, width=200, force_terminal=request.param, color_system=None)
    monkeypatch.setattr(printing, "console", made)
    return lambda: re.sub(r"\x1b\[[0-9?]*[a-zA-Z]", "", written.getvalue())


def test_text_is_shown_as_it_is_wherever_it_is_printed(out):
    printing.console.print(ODD)
    printing.table(f"title {ODD}", ("", f"column {ODD}"), [(f"name {ODD}", f"cell {ODD}")])
    with printing.progress(f"task {ODD}", 1) as update:
        update(1, f"note {ODD}")
    shown = " ".join(out().replace("│", " ").replace("┃", " ").split())
    assert shown.count("anatomy-r1[report]") >= 5 and "🚆" not in shown
    for where in ("", "title ", "name ", "cell ", "task "):
        assert f"{where}r[/]x" in shown


def test_control_codes_do_not_reach_the_terminal(out):
    attack = "a\x1b]0;owned\x07\x1b[2Jb\x9b31m\u202ec\ud800"
    printing.console.print(attack)
    printing.table(attack, (attack, "n"), [(attack, "1")])
    assert "owned" in out() and not re.search("[\x07\x1b\x9b\u202e\ud800]", out())


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_everything_is_printed_through_the_one_console(path):
    """No bare ``print``, no console beside ours, no markup: neither asked for nor written nor escaped."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        where = f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 0)}"
        if isinstance(node, ast.ImportFrom) and node.module in ("rich", "rich.markup", "rich.console"):
            assert path.name == "console.py" and node.module == "rich.console", f"{where} imports {node.module}"
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            assert name != "print", f"{where} prints past the console"
            assert "from_markup" not in name, f"{where} reads markup"
            assert not [one for one in node.keywords if one.arg == "markup" and ast.unparse(one.value) != "False"], (
                where
            )
            if name.endswith((".print", "Text")):
                for text in (one.value for one in ast.walk(node) if isinstance(one, ast.Constant)):
                    assert not re.search(r"\[(/|/?(bold|red|yellow|green|dim)[ \w]*)\]", str(text)), (
                        f"{where} has markup"
                    )
