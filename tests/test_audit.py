"""`make audit`: what is known is told, and an empty answer is no clean bill."""

import importlib.util
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
spec = importlib.util.spec_from_file_location("audit", ROOT / "locks/audit.py")
audit = importlib.util.module_from_spec(spec)
spec.loader.exec_module(audit)
SOUND = {"name": "sound", "version": "1.0", "vulns": []}
BROKEN = {"name": "broken", "version": "2.0", "vulns": [{"id": "CVE-1"}, {"id": "CVE-2"}]}
UNKNOWN = {"name": "unknown", "skip_reason": "not found"}


@pytest.mark.parametrize(
    ("packages", "code", "said"),
    [
        ([SOUND], 0, "1 packages looked up, 0 with known"),
        ([SOUND, BROKEN], 1, "broken 2.0: CVE-1, CVE-2"),
        ([SOUND, UNKNOWN], 0, "not looked up: unknown"),
        ([UNKNOWN], 2, "knows none of its 1 packages"),
    ],
)
def test_a_lock_is_judged_by_what_was_looked_up(packages, code, said):
    found, lines = audit.verdict(packages, "dev.txt")
    assert found == code and any(said in line for line in lines)


def test_a_service_that_can_not_be_reached_is_two_lines(tmp_path, monkeypatch, capsys):
    tool = tmp_path / "pip-audit"
    tool.write_text("#!/bin/sh\necho 'ERROR: could not reach the service' >&2\nexit 1\n")
    tool.chmod(0o755)
    monkeypatch.setattr(audit, "LICENCES", ROOT / "build/licences.csv")
    monkeypatch.setattr(audit, "write_licences", lambda: Counter(MIT=2))
    assert audit.main(str(tool)) == 2
    lines = capsys.readouterr().out.splitlines()[2:]
    assert len(lines) == 2 and "could not reach the service" in lines[0] and "Nothing was looked up" in lines[1]


def test_every_installed_package_has_a_line(tmp_path):
    counts = audit.write_licences(tmp_path / "licences.csv")
    rows = (tmp_path / "licences.csv").read_text().splitlines()
    assert len(rows) == sum(counts.values()) + 1 and any(row.startswith("numpy,") for row in rows)
