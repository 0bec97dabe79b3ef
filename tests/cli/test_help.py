"""Help, suggestions and options: what a user is told before anything runs."""

import dataclasses
import importlib
import re
import subprocess
import sys

import pytest

import anatomy_r1
from anatomy_r1.agents import POLICIES
from anatomy_r1.banks import BANKS
from anatomy_r1.cli.arguments import parse
from anatomy_r1.cli.commands import COMMANDS
from anatomy_r1.cli.help import settings
from anatomy_r1.cli.main import run
from anatomy_r1.cli.options import options_of, summary_of
from anatomy_r1.curricula import AUGMENTATIONS, CURRICULA

REGISTRIES = (BANKS, CURRICULA, AUGMENTATIONS, POLICIES)
NAMED = [(registry, name) for registry in REGISTRIES for name in registry.names()]


def helped(arguments, capsys):
    with pytest.raises(SystemExit) as ended:
        run(arguments)
    assert ended.value.code == 0
    return capsys.readouterr().out


def refused(arguments, capsys):
    assert run(arguments) == 2
    return capsys.readouterr().err


def test_help_imports_no_torch():
    code = (
        "import contextlib, io, sys; from anatomy_r1.cli.main import COMMANDS, run\n"
        "for name in [*COMMANDS, '']:\n"
        "    with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()):\n"
        "        run([*name.split(), '--help'])\n"
        "print([name for name in ('torch', 'transformers', 'matplotlib', 'vllm') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


@pytest.mark.parametrize("name", COMMANDS)
def test_help_has_two_examples_short_placeholders_and_names_no_file_of_the_source(name, capsys):
    shown = helped([*name.split(), "--help"], capsys)
    examples = shown.split("\nexamples\n")[1].strip().splitlines()
    assert len(examples) == 2 and all(line.strip().startswith(f"anatomy-r1 {name}") for line in examples)
    assert "{True,False}" not in shown and "STR" not in shown
    assert not re.findall(r"\w\.(?:py|md)\b", shown)
    assert all(len(line) <= 110 for line in shown.splitlines())


def test_help_shows_basic_settings_first_and_all_of_them(capsys):
    shown = helped(["train", "--help"], capsys)
    basic, *rest = shown.split("\nmore")
    assert "--policy TEXT" in basic and "--grpo.steps N" in basic and "--resume" in basic
    assert "--grpo.loss-type" not in basic and "--vllm.server" not in basic
    assert "--grpo.loss-type" in "".join(rest) and "--vllm.no-sleep turns it off" in " ".join(shown.split())
    assert "[tiny]" in basic and "[asc]" in basic


def test_settings_that_help_names_first_exist(capsys):
    for name, command in COMMANDS.items():
        shown = helped([*name.split(), "--help"], capsys).split("\nmore")[0]
        for flag in command.basic:
            assert f"--{flag}" in shown or flag.upper().replace("-", "_") in shown, (name, flag)


@pytest.mark.parametrize("name", COMMANDS)
def test_defaults_in_help_are_those_that_hold(name):
    """A command may fill a config with other defaults than the config's own."""
    kind = getattr(importlib.import_module(f"anatomy_r1.cli.{COMMANDS[name].module}"), COMMANDS[name].kind)
    needed = [setting.name for setting in settings(kind) if setting.default is dataclasses.MISSING]
    filled = dataclasses.asdict(parse(kind, name, needed))
    held = {key: value for key, value in flat(filled) if key not in needed}
    shown = {setting.name: setting.default for setting in settings(kind) if setting.name not in needed}
    assert {key: shown[key] for key in held} == held


def flat(values, prefix=""):
    for key, value in values.items():
        inner = prefix if key == "config" else f"{prefix}{key.replace('_', '-')}"
        if isinstance(value, dict) and value:
            yield from flat(value, f"{inner}." if inner and key != "config" else inner)
        else:
            yield inner, value


def test_the_demo_shows_its_own_length_of_responses(capsys):
    line = next(line for line in helped(["demo", "--help"], capsys).splitlines() if "max-completion-length" in line)
    after = helped(["demo", "--help"], capsys).split(line)[1]
    assert "[24]" in line + after[:80]


def test_groups_and_the_version(capsys):
    for group in ("bank", "curriculum", "policy", "augmentation"):
        for arguments in ([group], [group, "--help"]):
            assert run(arguments) == 0
            shown = capsys.readouterr().out
            assert f"{group} options" in shown and "train" not in shown.split("\n\n")[1].split()
    assert run(["--version"]) == 0
    assert capsys.readouterr().out == f"anatomy-r1 {anatomy_r1.__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["trian"], "unknown command 'trian'. Did you mean train?"),
        (["bank", "lst"], "unknown command 'bank lst'. Did you mean bank list?"),
        (["curriculum", "prview"], "Did you mean curriculum preview?"),
        (["train", "--grpo.step", "3"], "unknown option --grpo.step. Did you mean --grpo.steps?"),
        (["train", "--grpo.steps", "many"], "--grpo.steps must be a whole number, got 'many'."),
        (["train", "--grpo.learning-rate=fast"], "--grpo.learning-rate must be a number or None, got 'fast'."),
        (["train", "--sampler", "vlm"], "--sampler must be one of auto, own, vllm, got 'vlm'. Did you mean vllm?"),
        (["evaluate", "--limit", "x"], "--limit must be a whole number or None, got 'x'."),
        (["evaluate", "--out"], "--out needs a value: --out PATH."),
        (["evaluate", "--bank-options", "size"], "--bank-options"),
        (["evaluate", "--bank-options", "size"], "--bank-options needs pairs of a name and a value, got 'size'."),
        (
            ["evaluate", "--policy-options", "a", "1", "b", "--limit", "3"],
            "needs pairs of a name and a value, got 'a 1",
        ),
        (["evaluate", "--bank-options", "--limit", "3"], "--bank-options needs a value: --bank-options KEY VALUE …."),
        (["evaluate", "--out="], "--out needs a value: --out PATH."),
        (["evaluate", "--resume=maybe"], "--resume is a switch and takes no value, got 'maybe'."),
        (["evaluate", "--no-resume=x"], "--no-resume is a switch and takes no value, got 'x'."),
        (["evaluate", "--resume", "maybe"], "unexpected 'maybe': evaluate takes only settings."),
        (["train", "--model.lora.targets", "a", "b"], "unexpected 'b': train takes only settings."),
        (["evaluate", "a=b"], "unexpected 'a=b'"),
        (["bank", "preview", "a", "b"], "unexpected 'b': bank preview takes BANK."),
        (["bank", "preview", "-n", "x"], "-n must be a whole number, got 'x'."),
        (["bank", "preview", "-m", "3"], "unknown option -m."),
        (["report"], "report needs RUN_FOLDER: Folder of a training run or an evaluation."),
        (["train", "--grpo.steps", "1e3"], "--grpo.steps must be a whole number, got '1e3'."),
        (
            ["train", "--model.lora.rank", "9" * 23],
            "--model.lora.rank must be a whole number of 64 bits at most, got '99",
        ),
        (["train", "--grpo.learning-rate", "nan"], "--grpo.learning-rate must be a number or None, got 'nan'."),
        (["train", "--held-out.limit", "-3"], "held-out: limit must be at least 0, got -3"),
        (["sft", "--evaluate-every", "-1"], "evaluate_every must be at least 0, got -1"),
        (["train", "--config", "paper-qwen"], "Did you mean the preset paper-qwen2.5-vl-7b?"),
        (["train", "--config", "configs/tiny-cpu.tml"], "Presets: paper-qwen2.5-vl-7b, "),
        (["bank", "options", "scense"], "unknown bank 'scense'. Did you mean 'scenes'?"),
    ],
)
def test_mistakes_end_in_two_lines_with_a_suggestion(arguments, expected, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shown = refused(arguments, capsys)
    assert expected in shown and shown.count("\n") <= 2 and "Traceback" not in shown


@pytest.mark.parametrize(("registry", "name"), NAMED, ids=[f"{r.kind}-{name}" for r, name in NAMED])
def test_every_option_is_told_in_words(registry, name):
    if name == "vllm":
        pytest.importorskip("torch")
    assert summary_of(registry, name)
    assert not [option.name for option in options_of(registry, name) if not option.doc]


def test_options_are_listed_with_defaults_and_without_what_the_command_gives(capsys):
    assert run(["bank", "options", "masks"]) == 0
    shown = capsys.readouterr().out
    assert "labels" in shown and "[images/**/*]" in shown and "\n  path" not in shown
    assert run(["curriculum", "options", "asc"]) == 0
    shown = capsys.readouterr().out
    assert "tolerance" in shown and "[0.05]" in shown and "\n  bank" not in shown and "\n  seed" not in shown
    assert run(["policy", "options", "random"]) == 0
    assert capsys.readouterr().out == "policy random takes no --policy-options.\n"


def test_the_list_has_a_line_for_everything(capsys):
    assert run(["bank", "list"]) == 0
    shown = capsys.readouterr().out.splitlines()
    for _, name in NAMED:
        assert any(line.startswith(f"  {name} ") and len(line.split()) > 2 for line in shown), name


def test_a_preset_is_given_by_its_name(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run(["train", "--config", "tiny-cpu", "--dry-run"]) == 0
    assert 'out = "runs/tiny-cpu"' in capsys.readouterr().out
