"""Two real processes, sharded or not: one killed, the other, both; and a question that neither of them can ask."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("torch")
sys.path.insert(0, str(Path(__file__).parent))
from test_kills import GRPO, forked

KILLED = -9


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["beside each other", "sharded"])
def test_a_pair_that_is_killed_at_any_instant_goes_on_to_the_same_end(kind, tmp_path):
    (came,) = forked(tmp_path, {kind: GRPO}, "kill pair")
    assert came["codes"] == [0, 0] and came["files"] > 1 and came["steps"] == 4 and not came["differ"], came
    for end in came["ended"]:
        for rank, code in enumerate(end["codes"]):
            assert code == (KILLED if rank in end["victims"] else 2), end
            assert code == KILLED or "another process ended" in end["said"][rank], end


BAD = "--bank jsonl:bank.jsonl --bank-options allow_bad True --held-out.limit 0 --out OUT"
BAD_RUNS = {
    "train": f"train {BAD} --curriculum uniform --augmentation none --grpo.steps 8 --grpo.questions-per-step 2"
    " --grpo.num-generations 2 --grpo.max-completion-length 8",
    "sft": f"sft {BAD} --seed 4 --sft.steps 8 --sft.batch-size 2",
}


@pytest.mark.slow
def test_a_question_that_a_pair_can_not_ask_ends_it_in_words_and_it_says_what_is_kept(tmp_path):
    rng, rows = np.random.default_rng(0), []
    for number in range(12):
        path = tmp_path / f"{number}.jpg"
        Image.fromarray(rng.integers(0, 255, (40, 40, 3), dtype=np.uint8)).save(path)
        row = {"id": f"q{number}", "image": path.name, "stem": "Which organ is this?", "options": ["liver", "gut"]}
        rows.append(json.dumps({**row, "answer": number % 2, "split": "train", "structure": "liver"}))
    (tmp_path / "5.jpg").write_bytes((tmp_path / "5.jpg").read_bytes()[:300])
    (tmp_path / "bank.jsonl").write_text("\n".join(rows))
    for came in forked(tmp_path, BAD_RUNS, "pair"):
        for code, said in zip(came["codes"], came["said"], strict=True):
            own = [line for line in said.splitlines() if not line.startswith("[rank")]  # torch, loaded before the fork
            assert code == 2 and len(own) == 2, came
            assert "question 'q5'" in said or "another process ended" in said, came
        said = "".join(came["said"])
        assert "question 'q5'" in said and "--allow-bad --resume" in said, came
        assert "was written (the other processes may be in the middle of a step)" in said and not came["left"], came
