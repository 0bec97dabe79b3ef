"""Nothing is lost: real runs killed at seeded instants go on to what the uninterrupted ones came to, bit for bit."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")
from anatomy_r1.cli.main import run

GRPO = "--held-out.limit 0 --grpo.steps 4 --grpo.save-every 1 --grpo.questions-per-step 2 --grpo.num-generations 4"
GRPO = f"train --out OUT {GRPO} --grpo.max-completion-length 24 --grpo.temperature 1.5"
ASC = f"{GRPO} --curriculum asc --curriculum-options"
SFT = "sft --out OUT --held-out.limit 0 --sft.steps 4 --sft.save-every 1 --sft.batch-size 2"
EVALUATE = "evaluate --out OUT --policy tiny --limit 8 --batch-size 2 --n 2 --policy-options temperature 1.0"
RUNS = {
    "uniform": f"{GRPO} --curriculum uniform",
    "the paper's schedule": f"{ASC} schedule paper",
    "a schedule that learns": f"{ASC} schedule competence",
    "a similarity that learns": f"{ASC} similarity confusion refresh 2",
    "balance by counts": f"{ASC} balance uniform replay 0.3",
    "balance by accuracy": f"{ASC} balance inverse-accuracy schedule competence",
    "easy questions seldom": f"{ASC} easy_weight 0.5 schedule linear",
    "GDQA": f"{ASC} schedule competence --augmentation gdqa",
    "GDQA, always": f"{GRPO} --augmentation gdqa --augmentation-options trigger always",
    "a mixture": f"{GRPO} --bank mix:mixture.toml --curriculum uniform",
    "a divergence from the start": f"{GRPO} --grpo.beta 0.05",
    "two passes and a clip": f"{GRPO} --grpo.num-iterations 2 --grpo.loss-type dapo",
    "adapters": f"{GRPO} --model.lora.rank 2 --grpo.beta 0.05",
    "check-ups": f"{GRPO} --evaluate-every 2".replace("--held-out.limit 0", "--held-out.limit 3"),
    "supervised": SFT,
    "supervised adapters": f"{SFT} --model.lora.rank 2",
    "an evaluation": EVALUATE,
    "a judgement": "score run --out=OUT",
    "an export": "bank export scenes -n 12 --out=OUT",
}
MIXTURE = '[[bank]]\nspec = "scenes"\nweight = 0.7\n[[bank]]\nspec = "scenes"\nweight = [[0, 0.1], [1, 1]]\n'
MIXTURE += "options = {seed = 5}\n"


def forked(folder, jobs, work):
    """What came of each job; see forked_runs.py."""
    (folder / "mixture.toml").write_text(MIXTURE)
    script = Path(__file__).with_name("forked_runs.py")
    line = [sys.executable, "-W", "ignore", str(script), str(folder), json.dumps(jobs), work]
    variables = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(line, cwd=folder, env=variables, capture_output=True, text=True, timeout=1500)
    found = [json.loads(row) for row in done.stdout.splitlines()]
    assert len(found) == len(jobs), done.stderr[-3000:]
    return found


@pytest.mark.slow
def test_runs_killed_at_any_instant_go_on_to_the_same_end(tmp_path):
    line = "evaluate --policy random --limit 200 --batch-size 64 --controls none --out"
    assert run([*line.split(), str(tmp_path / "run")]) == 0
    found = forked(tmp_path, RUNS, "kill")
    for came in found:
        assert came["codes"] == [0, 0] and came["files"] and not came["differ"] and not came["litter"], came
    assert sum(came["killed"] for came in found) >= 40
    trained = [came for came in found if came["job"] not in ("an evaluation", "a judgement", "an export")]
    assert all(came["moved"] for came in trained)  # there was something to lose
