"""docs/reliability.md: every promise stands beside a test that exists."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs/reliability.md").read_text(encoding="utf-8")


def names_of_tests(path):
    return {node.name for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.FunctionDef)}


def test_every_promise_names_tests_that_exist():
    rows = [line.strip("|").split("|") for line in PAGE.splitlines() if line.startswith("| ")]
    promises = [(row[0].strip(), row[1]) for row in rows if row[0].strip() not in ("promise", "---")]
    assert len(promises) >= 15
    for promise, held in promises:
        named = re.findall(r"`(tests/[\w/.]+)::(\w+)`", held)
        assert named and held.count("`") == 2 * len(named), promise
        for path, name in named:
            assert name in names_of_tests(ROOT / path), f"{promise}: {path}::{name}"


def test_the_page_is_on_the_site():
    assert "reliability.md" in (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
