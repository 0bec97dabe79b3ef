"""What is printed: progress in 80 columns, one rounding."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anatomy_r1.cli import console as module
from anatomy_r1.cli.console import PlainConsole, progress
from anatomy_r1.evaluation.stats import Estimate, per_cent, points, points_range, share, share_range

NOTE = "reward 0.250  loss 0.039  accuracy 0.125  invalid groups 0.000, and then some more"


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize(("title", "total"), [("evaluate before", 400), ("train", 100_000)])
def test_a_progress_line_shows_step_total_and_eta(monkeypatch, capsys, width, title, total):
    monkeypatch.setattr(module, "console", PlainConsole(width=width, force_terminal=True, color_system=None))
    with progress(title, total) as update:
        update(total // 2, NOTE)
        update(total, NOTE)
    line = capsys.readouterr().out.split("\r")[-1].split("\n")[0]
    line = "".join(part.partition("K")[2] or part for part in line.split("\x1b["))
    assert len(line.rstrip()) <= width
    assert f"{title}" in line and f"{total}/{total}" in line and "ETA 0:00:00" in line and "reward 0.250" in line


def test_a_line_guesses_the_rest_from_what_it_saw_go_by(monkeypatch, capsys):
    """The first update may come after a long start, and far into a task that goes on."""
    clock = iter([0.0, 20.0, 40.0, 60.0])
    monkeypatch.setattr(module.time, "monotonic", lambda: next(clock))
    monkeypatch.setattr(module, "console", PlainConsole(width=80, force_terminal=False))
    with progress("evaluate", 100) as update:
        for done in (32, 64, 100):
            update(done)
    lines = capsys.readouterr().out.splitlines()
    assert lines == ["evaluate 32/100  20 s", "evaluate 64/100  40 s, ETA 22 s", "evaluate 100/100  60 s, ETA 0 s"]


def test_shares_and_per_cent_round_the_same_way():
    assert (share(0.6025), per_cent(0.6025)) == ("0.603", "60.3")
    assert (points(0.2675), points(-0.00125), points(-0.0001), points(0.0)) == ("+26.8", "−0.1", "+0.0", "+0.0")
    estimate = Estimate(0.6025, 0.5535, 0.6495, 400, 400, "wilson")
    assert share_range(estimate) == "0.554 – 0.650" and points_range(estimate) == "+55.4 … +65.0"
    assert share_range(Estimate(0.25, 0.25, 0.25, 9, 9, "exact")) == ""


@given(st.integers(0, 4000), st.integers(1, 4000))
def test_any_share_is_the_same_number_in_both_forms(part, whole):
    value = min(part, whole) / whole
    assert float(share(value)) * 100 == pytest.approx(float(per_cent(value)), abs=1e-9)
