"""A run of the tests says at its end what it skipped."""

import shutil
import subprocess
import sys
from pathlib import Path

TESTS = """
import pytest

def test_one():
    pytest.importorskip("no_such_package")

@pytest.mark.parametrize("number", range(3))
@pytest.mark.skipif(True, reason="there is no Chromium here")
def test_more(number):
    pass
"""


def test_what_was_skipped_is_said_by_reason(tmp_path):
    shutil.copy(Path(__file__).with_name("conftest.py"), tmp_path)
    (tmp_path / "test_some.py").write_text(TESTS)
    run = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", str(tmp_path), "--rootdir", str(tmp_path)]
    lines = [" ".join(line.split()) for line in subprocess.run(run, capture_output=True, text=True).stdout.splitlines()]
    assert "3 there is no Chromium here" in lines
    assert "1 the package no_such_package is not installed" in lines
