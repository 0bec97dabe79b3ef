"""What every run of the tests says at its end: what was skipped, and for want of what."""

import importlib.util
import re
from collections import Counter


def pytest_terminal_summary(terminalreporter):
    wants = Counter(want(report.longrepr) for report in terminalreporter.stats.get("skipped", ()))
    if "tests" in terminalreporter.config.args and importlib.util.find_spec("vllm") is None:
        wants["the package vllm (tests/vllm; make test-vllm runs them)"] = 0
    if wants:
        terminalreporter.section("skipped")
    for reason, number in sorted(wants.items(), key=lambda item: -item[1]):
        terminalreporter.write_line(f"{number or 'all':>4}  {reason}")


def want(skip):
    """In a word, from what pytest keeps of a skip: file, line and reason."""
    reason = (skip[2] if isinstance(skip, tuple) else str(skip)).removeprefix("Skipped: ")
    package = re.match(r"could not import '(\w+)", reason)
    return f"the package {package[1]} is not installed" if package else reason
