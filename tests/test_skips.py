"""A run of the tests says at its end what it skipped, and what it left out."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = """
import pytest

def test_one():
    pytest.importorskip("no_such_package")

@pytest.mark.parametrize("number", range(3))
@pytest.mark.skipif(True, reason="there is no Chromium here")
def test_more(number):
    pass

@pytest.mark.slow
@pytest.mark.parametrize("number", range(5))
def test_long(number):
    pass
"""


def said(folder, *options):
    """Lines of a run of TESTS with this suite's conftest."""
    shutil.copy(Path(__file__).with_name("conftest.py"), folder)
    (folder / "test_some.py").write_text(TESTS)
    (folder / "pytest.ini").write_text("[pytest]\nmarkers = slow\n")
    run = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", str(folder), "--rootdir", str(folder), *options]
    return [" ".join(line.split()) for line in subprocess.run(run, capture_output=True, text=True).stdout.splitlines()]


def test_what_was_skipped_is_said_by_reason(tmp_path):
    lines = said(tmp_path)
    assert "3 there is no Chromium here" in lines
    assert "1 the package no_such_package is not installed" in lines
    assert not [line for line in lines if "left out" in line]


@pytest.mark.parametrize("workers", ["0", "2"])
def test_how_many_slow_tests_were_left_out_is_said(workers, tmp_path):
    lines = said(tmp_path, "-m", "not slow", "-n", workers)
    assert "5 slow tests were left out; make test-slow runs them." in lines
