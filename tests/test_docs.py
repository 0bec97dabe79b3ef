"""README and docs keep their word: their Python runs, their commands exist and run, what they name is there."""

import contextlib
import doctest
import importlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest

from anatomy_r1.cli.commands import COMMANDS
from anatomy_r1.cli.main import run

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.md")])
PAGES = [page for page in PAGES if page.name != "CHANGELOG.md"]
ROOMS = (
    *("core", "banks", "curricula", "envs", "agents", "evaluation", "integrations", "workflows", "cli"),
    "recipes",
)
SHELL, NEEDS = ("sh", "bash"), ("DATA", "NETWORK", "GPU")
FENCE = re.compile(
    r'^(?:<!-- not run: needs (\w+) -->\n)?```(\w*)(?: title="([^"]+)")?\n(.*?)^```$', re.MULTILINE | re.DOTALL
)
MARK = re.compile(r"<!-- not run: needs (\w+) -->")
SET_UP = ("make", "pip", ".", "pre-commit", "export")
"""What a page's first lines are for, and what the environment of a test already has."""
SMALLER = {
    "train": {"--grpo.steps": 1, "--grpo.questions-per-step": 2, "--held-out.limit": 32},
    "sft": {"--sft.steps": 2, "--held-out.limit": 32},
    "evaluate": {"--limit": 32},  # compare wants 30
    "bank validate": {"--limit": 20},
    "bank export": {"--limit": 8},
    "curriculum preview": {"--draws": 20},
}
"""Flags that make a page's commands cheap; they replace those that the page gives."""
PLACEHOLDERS = {"S": "0", "SEED": "0"}
OTHERS_FLAGS = {
    "--config_file",
    "--data-parallel-size",
    "--enable-scale-out",
    "--help",
    "--logprobs-mode",
    "--ml",
    "--no-enable-chunked-prefill",
    "--parallelism_config_dp_replicate_size",
    "--tensor-parallel-size",
    "--version",
    "--weight-transfer-config",
}
"""Flags in running text that are not of ``anatomy-r1``: those of vLLM, accelerate and TotalSegmentator."""


@dataclass(frozen=True)
class Block:
    page: Path
    line: int
    language: str
    title: str
    text: str
    needs: str

    @property
    def commands(self):
        """Its command lines, as lists of words; of a transcript, those behind a prompt."""
        lines = self.text.replace("\\\n", " ").splitlines()
        if self.language not in SHELL:
            lines = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
        return [words for line in lines if (words := shlex.split(line, comments=True))]

    def __str__(self):
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks(page):
    text = page.read_text(encoding="utf-8")
    for found in FENCE.finditer(text):
        needs, language, title, body = found.groups(default="")
        yield Block(page, text.count("\n", 0, found.start(4)), language, title, body, needs)


BLOCKS = [block for page in PAGES for block in blocks(page)]
by_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
prose = {page: re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL) for page in PAGES}


@by_page
def test_marks_name_what_is_needed(page):
    marks = re.findall(r"<!-- not run.*?-->", page.read_text(encoding="utf-8"))
    assert [mark for mark in marks if (found := MARK.fullmatch(mark)) is None or found[1] not in NEEDS] == []


# Commands.
def ours(words):
    """What follows ``anatomy-r1`` in a command, however it is started; None in another's."""
    if words[0] == "anatomy-r1":
        return words[1:]
    if "anatomy_r1" in words and words[words.index("anatomy_r1") - 1] == "-m":
        return words[words.index("anatomy_r1") + 1 :]
    return None


def check(words, monkeypatch, known_files=()):
    """Raise AssertionError where a command of ours, make's or Python's is not one."""
    if words[0] == "make":
        targets = re.findall(r"^([\w./$()-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
        targets = {target.replace("$(VENV)", ".venv") for target in targets}
        assert not [word for word in words[1:] if "=" not in word and word not in targets], words
    elif words[0] == "pip":
        extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"][
            "optional-dependencies"
        ]
        named = [extra for word in words for extra in ",".join(re.findall(r"anatomy-r1\[(.*)\]", word)).split(",")]
        assert {*filter(None, named)} <= {*extras}, words
    elif (rest := ours(words)) is not None:
        parse(rest, monkeypatch)
    elif words[0] == "python" and words[1:2] != ["-m"]:
        script = ROOT / words[1]
        assert words[1] in known_files or script.exists(), words
        if script.exists():
            source = "\n".join(
                p.read_text(encoding="utf-8") for p in ([script] if script.is_file() else script.glob("*.py"))
            )
            for flag in [word.removeprefix("--") for word in words if word.startswith("--")]:
                assert flag in source or re.search(rf"\b{flag.replace('-', '_')}\b", source), f"{words}: --{flag}"


def parse(words, monkeypatch):
    """Have the parser read the arguments, and run nothing."""
    name = next((n for n in COMMANDS if words[: len(n.split())] == n.split()), None)
    assert name or words in (["COMMAND"], ["--version"], ["--help"], ["bank", "--help"]), (
        f"no such command: {words[:2]}"
    )
    if not name or len(words) == len(name.split()):
        return
    words = [PLACEHOLDERS.get(word, word) for word in words if word not in ("…", "[C…]")]
    if "--config" in words:
        at = words.index("--config")
        if not any((ROOT / path).exists() for path in (words[at + 1], f"configs/{words[at + 1]}.toml")):
            words = words[:at] + words[at + 2 :]
    module = importlib.import_module(f"anatomy_r1.cli.{COMMANDS[name].module}")
    monkeypatch.setattr(getattr(module, COMMANDS[name].kind), "run", lambda self: 0)
    monkeypatch.chdir(ROOT)
    try:
        code = run(words)
    except SystemExit as stop:
        code = stop.code
    assert code == 0, f"anatomy-r1 {' '.join(words)}"


@by_page
def test_commands_in_blocks_exist(page, monkeypatch):
    mine = [block for block in BLOCKS if block.page == page]
    titles = [block.title for block in mine]
    for block in mine:
        for words in block.commands:
            check(words, monkeypatch, titles)


@by_page
def test_commands_in_the_text_exist(page, monkeypatch):
    for span in re.findall(r"`((?:anatomy-r1|make|python|pip) [^`]+)`", prose[page]):
        check(shlex.split(span), monkeypatch)


@pytest.fixture(scope="module")
def flags():
    """Every flag that the text may name."""
    sys.path.insert(0, str(ROOT / "docs/tools"))
    from cli_reference import help_of

    scripts = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "benchmarks").rglob("*.py"))
    fields = re.findall(r"\b([a-z_]+): (?:bool|int|float|str|tuple|Path)", scripts)
    own = {flag for name in COMMANDS for flag in re.findall(r"--[a-z0-9.-]+", help_of(name))}
    return own | {f"--{field.replace('_', '-')}" for field in fields} | OTHERS_FLAGS


@by_page
def test_flags_in_the_text_exist(page, flags):
    named = re.findall(r"`(--[a-z0-9._-]+)[ `]", prose[page])
    assert [flag for flag in named if flag not in flags and not flag.endswith(".")] == []


@by_page
def test_files_named_in_the_text_exist(page):
    named = re.findall(rf"`((?:{'|'.join(ROOMS)}|tests|benchmarks|configs|examples|docs|locks)/[\w./-]+)`", prose[page])
    beside = (ROOT, ROOT / "configs")
    assert [path for path in named if not any((folder / path).exists() for folder in beside)] == []


GROUPS = re.findall(
    r'Registry\("[\w ]+", "(anatomy_r1\.\w+)"\)',
    "".join(path.read_text(encoding="utf-8") for room in ROOMS for path in (ROOT / room).rglob("*.py")),
)
"""Entry-point groups, which look like modules."""


@by_page
def test_python_names_in_the_text_exist(page):
    for name in re.findall(r"`(anatomy_r1(?:\.\w+)+)", prose[page]):
        if name in GROUPS:
            continue
        parts, home = name.split("."), importlib.import_module("anatomy_r1")
        for at, part in enumerate(parts[1:], start=2):
            home = getattr(home, part, None) or importlib.import_module(".".join(parts[:at]))


# Pages, from top to bottom.
def smaller(words):
    """A command of ours with flags that make it cheap."""
    rest = ours(words)
    name = next((n for n in SMALLER if rest and rest[: len(n.split())] == n.split()), None)
    if name is None or "--dry-run" in words:
        return words
    for flag, value in SMALLER[name].items():
        if flag in words:
            at = words.index(flag)
            words = words[:at] + words[at + 2 :]
        words = [*words, flag, str(value)]
    return words


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A new user's folder: the clone's configs and examples, and commands that run this checkout."""
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    suite = tmp_path / "examples/suite.toml"
    suite.write_text(re.sub(r"limit = \d+", "limit = 4", suite.read_text().replace("seeds = [0, 1]", "seeds = [0]")))
    for name, start in {"python": "", "anatomy-r1": " -m anatomy_r1"}.items():
        script = tmp_path / "bin" / name
        script.parent.mkdir(exist_ok=True)
        script.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)}{start} "$@"\n')
        script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "src"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def shell(lines, folder):
    text = re.sub(r"\bSEED\b", "0", "\n".join(lines))
    done = subprocess.run(["bash", "-e", "-c", text], cwd=folder, capture_output=True, text=True, timeout=580)
    assert done.returncode == 0, f"{lines}\n{done.stdout[-1500:]}\n{done.stderr[-1500:]}"
    return done.stdout + done.stderr


def follow(page, folder):
    """Do what a page says, in its order."""
    names = {"__name__": "page"}
    for block in blocks(page):
        if block.needs:
            continue
        if block.title:
            (folder / block.title).parent.mkdir(exist_ok=True)
            (folder / block.title).write_text(block.text, encoding="utf-8")
        elif block.language == "python" and ">>>" in block.text:
            test = doctest.DocTestParser().get_doctest(block.text, names, str(block), str(page), block.line)
            failed = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE).run(test, clear_globs=False)
            names.update(test.globs)
            assert failed.failed == 0, str(block)
        elif block.language == "python":
            exec(compile(block.text, str(block), "exec"), names)
        elif block.language in SHELL:
            lines = block.text.replace("\\\n", " ").splitlines()
            shell([cheap(line) for line in lines], folder)


def cheap(line):
    words = shlex.split(line, comments=True)
    if not words or words[0] in SET_UP:
        return ""
    if words[:2] == ["anatomy-r1", "watch"]:  # a server: it stays up until it is stopped
        return f"timeout 20 {shlex.join(words)} || test $? = 124"
    return shlex.join(smaller(words)) if words[0] == "anatomy-r1" else line


RUN = [page for page in PAGES if any(b.language in (*SHELL, "python") and not b.needs for b in blocks(page))]


@pytest.mark.slow
@pytest.mark.parametrize("page", RUN, ids=lambda page: str(page.relative_to(ROOT)))
def test_page_can_be_followed(page, folder):
    follow(page, folder)


# What the README promises, by its own words.
README = (ROOT / "README.md").read_text(encoding="utf-8")
FEW = "--limit 8 --bank-options length 100"
"""Questions to ask, and to learn from."""


def test_a_class_with_just_the_method_of_the_readme_is_a_policy(folder):
    signature = re.search(r"`respond(\(.*?\)) -> list\[Response\]`", README)[1].replace("(", "(self, ", 1)
    spec = re.search(r"`--policy (my_module:my_policy)`", README)[1]
    module, name = spec.split(":")
    (folder / f"{module}.py").write_text(
        f"from anatomy_r1.agents import Response\nclass {name}:\n    def respond{signature}:\n"
        "        texts = ['<think>a</think><answer>A</answer>'] * len(observations['prompt'])\n"
        "        return [Response(text) for text in texts for _ in range(n)]\n"
        f"instance = {name}()\n"
    )
    for number, attribute in enumerate((name, "instance")):
        shell([f"anatomy-r1 evaluate --policy {module}:{attribute} {FEW} --out {number}"], folder)
        results = json.loads((folder / f"{number}/results.json").read_text())
        assert results["policy"] == name
        assert results["format_failures"] == 0


def test_a_function_of_the_readme_is_found_in_the_current_folder(folder):
    spec = re.search(r"`--policy (my_module:my_policy)`", README)[1]
    module, name = spec.split(":")
    (folder / f"{module}.py").write_text(f"def {name}(observation):\n    return '<think>a</think><answer>A</answer>'\n")
    shell([f"anatomy-r1 evaluate --policy {spec} {FEW} --out out"], folder)
    assert json.loads((folder / "out/results.json").read_text())["format_failures"] == 0


@pytest.fixture
def rows(folder):
    """A file of rows as the README shows one, of as many images."""
    row = json.loads(next(block.text for block in blocks(ROOT / "README.md") if block.language == "json"))
    from PIL import Image

    path = folder / "rows.jsonl"
    lines = []
    for number in range(24):
        image = Path(row["image"]).with_name(f"{number}.png")
        (folder / image).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (96, 96), (10 * number, 90, 60)).save(folder / image)
        lines.append(json.dumps(row | {"id": f"q{number}", "image": str(image), "answer": number % 2}))
    path.write_text("\n".join(lines) + "\n")
    return path


def test_rows_of_the_readme_can_be_evaluated(rows, folder):
    shell([f"anatomy-r1 evaluate --policy longest --bank jsonl:{rows.name} --out out"], folder)
    assert json.loads((folder / "out/results.json").read_text())["n"] == 24


@pytest.mark.slow
def test_rows_of_the_readme_can_be_trained_on(rows, folder):
    train = ["anatomy-r1", "train", "--bank", f"jsonl:{rows.name}", "--curriculum", "uniform", "--out", "out"]
    shell([shlex.join([*smaller(train), "--grpo.max-completion-length", "8"])], folder)
    before, after = (json.loads((folder / f"out/{side}/results.json").read_text()) for side in ("before", "after"))
    assert 0 < before["n"] == after["n"] < 24


# Examples in docstrings.
def module_of(path):
    return ".".join(["anatomy_r1", *path.relative_to(ROOT).with_suffix("").parts]).removesuffix(".__init__")


EXAMPLES = sorted(
    path for room in ROOMS[:-1] for path in (ROOT / room).rglob("*.py") if ">>>" in path.read_text(encoding="utf-8")
)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: str(path.relative_to(ROOT)))
def test_docstring_examples(path):
    module = importlib.import_module(module_of(path))
    with contextlib.redirect_stdout(sys.stderr):
        outcome = doctest.testmod(module)
    assert outcome.attempted and not outcome.failed


# The notebook.
NOTEBOOK = ROOT / "docs/notebooks/from-question-to-policy.ipynb"


@pytest.mark.slow
def test_notebook_runs(folder, monkeypatch):
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbclient.NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": folder}}
    ).execute()
    pictures = [o for c in notebook.cells for o in c.get("outputs", ()) if "image/png" in o.get("data", {})]
    assert len(pictures) >= 4
