"""A run's folder, damaged file by file: it goes on from what is whole to the same end, or is refused in two lines."""

import itertools
import json
import os
import shlex
import shutil
import warnings

import pytest

from anatomy_r1.cli.main import run
from anatomy_r1.core import AnatomyError, release_folder

pytest.importorskip("torch")
STEPS = "--grpo.steps 3 --grpo.save-every 1 --grpo.questions-per-step 2 --grpo.num-generations 4"
COMMAND = f"train --seed 1 --held-out.limit 0 {STEPS} --grpo.max-completion-length 24 --grpo.temperature 1.5 --out"
KINDS = ("truncated", "flipped", "zeroed", "swapped", "deleted")


def damage(path, kind, other):
    data = path.read_bytes()
    at = len(data) * 2 // 3
    changed = {
        "truncated": data[:at],
        "flipped": data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :] if data else b"",
        "zeroed": bytes(len(data)),
        "swapped": other.read_bytes(),
    }
    path.unlink()
    if kind != "deleted":
        path.write_bytes(changed[kind])
    return kind == "deleted" or changed[kind] != data


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """A run as it is after two of its three steps, and the policy that it comes to."""
    from anatomy_r1.cli import training

    folder = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        shown = training._note

        def copy(figures):
            if figures.get("step") == 3:
                shutil.copytree("run", "stopped", ignore=shutil.ignore_patterns(".lock"))
            return shown(figures)

        patch.setattr(training, "_note", copy)
        assert run([*shlex.split(COMMAND), "run"]) == 0
    assert sorted(path.name for path in (folder / "stopped/checkpoints").iterdir()) == ["step-000001", "step-000002"]
    return folder / "stopped", (folder / "run/policy/model.safetensors").read_bytes()


def files(folder):
    """Of pictures, one stands for all."""
    found = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    pictures = [path for path in found if path.suffix == ".png"]
    return [path for path in found if path not in pictures[1:]]


def contents(folder):
    return {path: (folder / path).read_bytes() for path in files(folder)}


def test_a_damaged_checkpoint_is_never_taken(stopped, tmp_path):
    """Every file of a checkpoint in every way, in the newest one and in both: 2 × 5 for each of its files."""
    from anatomy_r1.agents.training import RunFolder

    run_folder, _ = stopped
    names = ("step-000001", "step-000002")
    before = {name: contents(run_folder / "checkpoints" / name) for name in names}
    tried = 0
    for file in files(run_folder / "checkpoints/step-000002"):
        for kind in KINDS:
            for both in (False, True):
                case = tmp_path / f"{tried}"
                shutil.copytree(run_folder / "checkpoints", case / "checkpoints", copy_function=os.link)
                one, two = (case / "checkpoints" / name for name in names)
                changed = damage(two / file, kind, run_folder / "checkpoints/step-000001" / file)
                if both:
                    changed |= damage(one / file, kind, run_folder / "checkpoints/step-000002" / file)
                tried += 1
                with warnings.catch_warnings(record=True) as said:
                    warnings.simplefilter("always")
                    try:
                        taken = RunFolder(case, resume=True).checkpoint
                    except AnatomyError as error:
                        assert changed and both and len(str(error).splitlines()) <= 2, (file, kind, error)
                        continue
                    finally:
                        release_folder(case)
                assert contents(taken) == before[taken.name], (file, kind, both)
                assert (taken.name == "step-000002") == (not changed), (file, kind, both)
                assert bool(said) == changed
                shutil.rmtree(case)
    assert tried >= 60


@pytest.mark.slow
def test_a_damaged_folder_goes_on_to_the_same_policy_or_is_refused(stopped, tmp_path, monkeypatch, capsys):
    """Every other file of a run's folder."""
    run_folder, expected = stopped
    monkeypatch.chdir(tmp_path)
    others = [file for file in files(run_folder) if file.parts[0] != "checkpoints"]
    ended = []
    for file, kind in itertools.product(others, KINDS):
        case = tmp_path / str(len(ended))
        shutil.copytree(run_folder, case, copy_function=os.link)
        damage(case / file, kind, run_folder / others[others.index(file) - 1])
        code = run([*shlex.split(COMMAND), str(case), "--resume"])
        said = capsys.readouterr().err
        assert code in (0, 2) and "Traceback" not in said and len(said.strip().splitlines()) <= 3, (file, kind, said)
        ended.append(code)
        if code == 0:
            assert (case / "policy/model.safetensors").read_bytes() == expected, (file, kind)
            last = json.loads((case / "metrics.jsonl").read_text().splitlines()[-1])
            assert last["step"] == 3, (file, kind)
        release_folder(case)
        shutil.rmtree(case)
    assert 0 in ended and len(ended) >= 20


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_evaluation_goes_on_or_is_refused(tmp_path, monkeypatch, capsys, kind):
    monkeypatch.chdir(tmp_path)
    command = shlex.split("evaluate --policy random --limit 4 --batch-size 2 --out")
    assert run([*command, "whole"]) == 0
    others = files(tmp_path / "whole")
    for number, file in enumerate(others):
        case = tmp_path / str(number)
        shutil.copytree("whole", case)
        damage(case / file, kind, tmp_path / "whole" / others[number - 1])
        capsys.readouterr()
        for again in (["report", str(case)], [*command, str(case), "--resume"]):
            code, said = run(again), capsys.readouterr().err
            assert code in (0, 2) and "Traceback" not in said and len(said.strip().splitlines()) <= 3, (file, said)
