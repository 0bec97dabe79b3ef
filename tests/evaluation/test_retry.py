"""Responses that never came are asked for again when a run is resumed."""

import json
from collections import Counter

import pytest

from anatomy_r1.agents import Response, make_policy
from anatomy_r1.core import AnatomyError
from anatomy_r1.evaluation import evaluate, read_rollouts
from anatomy_r1.evaluation.records import iterate_rollouts

FILES = ("rollouts.jsonl", "controls.jsonl")


class Flaky:
    """An imperfect policy that gives no response to every seventh question as long as it is ``down``."""

    name = "flaky"

    def __init__(self, down):
        self.down, self.asked = down, Counter()

    def respond(self, observations, *, n=1):
        said = make_policy("noisy-oracle:0.5", bank=self.bank).respond(observations, n=n)
        for place, name in enumerate(observations["question_id"]):
            self.asked[name] += 1
            if self.down and int(name.partition("/")[2].partition("~")[0]) % 7 == 3:
                said[place * n + n - 1] = Response("", failed="status 500")
        return said


def run(bank, out, policy, **options):
    settings = {"limit": 30, "n": 2, "permutations": 2, "batch_size": 8, "baselines": (make_policy("random"),)}
    policy.bank = bank
    return evaluate(policy, bank, out=out, resume=True, **settings | options)


def contents(folder):
    return [(folder / name).read_bytes() for name in FILES]


@pytest.mark.parametrize("finished", [True, False])
def test_a_resumed_run_equals_one_that_never_failed(bank, tmp_path, finished):
    whole = run(bank, tmp_path / "whole", Flaky(down=False))
    broken = run(bank, tmp_path / "run", Flaky(down=True))
    assert broken.failed > 0 and contents(tmp_path / "run") != contents(tmp_path / "whole")
    if not finished:
        (tmp_path / "run" / "results.json").unlink()
        path = tmp_path / "run" / "rollouts.jsonl"
        path.write_bytes(path.read_bytes()[:-1500])
    policy = Flaky(down=False)
    mended = run(bank, tmp_path / "run", policy)
    assert contents(tmp_path / "run") == contents(tmp_path / "whole")
    assert (mended.failed, mended.accuracy, mended.gains) == (0, whole.accuracy, whole.gains)
    assert mended.environment["bank_hash"] == whole.environment["bank_hash"]
    if finished:
        assert {name.partition("~")[0] for name in policy.asked} == {
            one.question_id for one in read_rollouts(tmp_path / "run") if int(one.question_id[5:]) % 7 == 3
        }


def test_what_fails_again_stays_one_failure_and_a_finished_run_can_be_left_as_it_is(bank, tmp_path):
    first = run(bank, tmp_path, Flaky(down=True))
    before = contents(tmp_path)
    policy = Flaky(down=True)
    assert run(bank, tmp_path, policy, retry_failed=False) == first and not policy.asked
    assert run(bank, tmp_path, policy).failed == first.failed
    assert contents(tmp_path) == before
    # Each form once, and the question itself under each control.
    assert policy.asked and all(times == (1 if "~" in name else 3) for name, times in policy.asked.items())
    with pytest.raises(AnatomyError, match="gave no response"):
        run(bank, tmp_path, Flaky(down=True), strict=True)
    assert contents(tmp_path) == before


def test_a_retry_that_is_killed_keeps_what_it_has_and_goes_on(bank, tmp_path):
    whole = run(bank, tmp_path / "whole", Flaky(down=False))
    run(bank, tmp_path / "run", Flaky(down=True))

    class Killed(Flaky):
        def respond(self, observations, *, n=1):
            if sum(self.asked.values()) >= 4:
                raise KeyboardInterrupt
            return super().respond(observations, n=n)

    with pytest.raises(KeyboardInterrupt):
        run(bank, tmp_path / "run", Killed(down=False), batch_size=2)
    rows = [one for name in FILES for one in iterate_rollouts(tmp_path / "run", name)]
    assert len(rows) == 30 * (4 + 2) and sum(one.failed is not None for one in rows) > 0
    policy = Flaky(down=False)
    assert run(bank, tmp_path / "run", policy).accuracy == whole.accuracy
    assert contents(tmp_path / "run") == contents(tmp_path / "whole")
    rows = (tmp_path / "run" / "rollouts.jsonl").read_text().splitlines()
    assert not any(json.loads(row)["failed"] for row in rows)
