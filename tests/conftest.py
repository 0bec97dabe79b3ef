"""What every run of the tests says at its end: what was skipped, and for want of what; what was left out as slow."""

import importlib.util
import re
import signal
from collections import Counter

import pytest

LEFT_OUT = pytest.StashKey[int]()


def pytest_configure():
    """Take Ctrl-C as on a terminal: what a script starts in the background ignores it, and so would all it starts."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_deselected(items):
    """Count slow tests that were left out; of several workers, each sees them all."""
    slow = [item for item in items if item.get_closest_marker("slow")]
    if slow:
        config = slow[0].config
        config.stash[LEFT_OUT] = config.stash.get(LEFT_OUT, 0) + len(slow)


def pytest_sessionfinish(session):
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["left_out"] = session.config.stash.get(LEFT_OUT, 0)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node):
    output = getattr(node, "workeroutput", None) or {}
    node.config.stash[LEFT_OUT] = max(node.config.stash.get(LEFT_OUT, 0), output.get("left_out", 0))


def pytest_terminal_summary(terminalreporter):
    wants = Counter(want(report.longrepr) for report in terminalreporter.stats.get("skipped", ()))
    if "tests" in terminalreporter.config.args and importlib.util.find_spec("vllm") is None:
        wants["the package vllm (tests/vllm; make test-vllm runs them)"] = 0
    if wants:
        terminalreporter.section("skipped")
    for reason, number in sorted(wants.items(), key=lambda item: -item[1]):
        terminalreporter.write_line(f"{number or 'all':>4}  {reason}")
    if left_out := terminalreporter.config.stash.get(LEFT_OUT, 0):
        tests = "test was" if left_out == 1 else "tests were"
        terminalreporter.write_line(f"{left_out} slow {tests} left out; make test-slow runs them.")


def want(skip):
    """In a word, from what pytest keeps of a skip: file, line and reason."""
    reason = (skip[2] if isinstance(skip, tuple) else str(skip)).removeprefix("Skipped: ")
    package = re.match(r"could not import '(\w+)", reason)
    return f"the package {package[1]} is not installed" if package else reason
