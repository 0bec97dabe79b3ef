"""The house: who may import whom, through which door, and what importing costs."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROOMS = {
    "core": "arrays memo markup errors compat hub files dicom locks image_folder images ranges registry labels text "
    "question image_loading prompt",
    "banks": "bank splits cholec45 fields inline_images tidy made_options columns rows export generate hub jsonl "
    "omnimedvqa brain masks mix released scenes special_tokens ssg",
    "curricula": "diversity protocols difficulty schedules similarity edits gdqa selection uniform learnability "
    "balance asc",
    "envs": "reward lenient spaces observations question_stream ticket_ids tickets render env option_actions "
    "vector_env",
    "agents": "configs model logprobs policies training grpo",
    "evaluation": "stats records summaries run audits doctor reports live",
    "integrations": "rows trl inspect_task verifiers_taskset lmms_task desk openenv_client openenv_server "
    "evaluation_logs training_logs importing",
    "workflows": "cards presets config settings resuming outcome notices backbones parts processes spread launched "
    "footprint forecast trackers checkups held_out running training supervised plan demo",
    "cli": "",
}
"""Rooms in the order of a question's way, and what is in each (modules, and closets: folders), in order."""
ORDER = tuple(ROOMS)
FILES = [path for room in ROOMS for path in sorted((ROOT / room).rglob("*.py"))]
by_file = pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))


def imported(path):
    """Our modules that a file imports from, and what."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("anatomy_r1."):
            yield node.module.split(".")[1:], [alias.name for alias in node.names]
        elif isinstance(node, ast.Import):
            yield from ((a.name.split(".")[1:], []) for a in node.names if a.name.startswith("anatomy_r1."))


@by_file
def test_a_room_imports_only_from_rooms_before_it(path):
    allowed = ORDER[: ORDER.index(path.relative_to(ROOT).parts[0]) + 1]
    for parts, _ in imported(path):
        assert parts[0] in allowed, f"{path} imports {'.'.join(parts)}"


@by_file
def test_a_closet_imports_only_from_what_stands_before_it(path):
    room, *inside = path.relative_to(ROOT).with_suffix("").parts
    order = ROOMS[room].split()
    if not order or inside == ["__init__"]:
        return
    assert inside[0] in order, f"give {inside[0]} its place in the order of {room}/"
    for parts, _ in imported(path):
        if parts[0] == room and len(parts) > 1 and parts[1] != inside[0]:
            assert order.index(parts[1]) < order.index(inside[0]), f"{path} imports {'.'.join(parts)}"


@by_file
def test_others_come_in_by_the_door(path):
    """From another room or closet, one imports from its face, the ``__init__``; private names stay inside."""
    folder = path.relative_to(ROOT).parent.parts
    for parts, names in imported(path):
        home = ROOT.joinpath(*parts)
        package = parts if home.is_dir() else parts[:-1]
        if tuple(package) == folder[: len(package)]:
            continue  # one's own closet, or what it stands in
        beside = package == [folder[0]] and home.with_suffix(".py").exists()  # a module of one's own room
        assert home.is_dir() or beside, f"{path} imports {'.'.join(parts)}, not its face"
        assert not [name for name in names if name.startswith("_")], f"{path}: {names}"


@by_file
def test_files_stay_short(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400


def test_environment_needs_no_torch():
    heavy = "('torch', 'transformers', 'matplotlib', 'nibabel', 'tyro')"
    code = f"import sys, anatomy_r1.envs; print([name for name in {heavy} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


def test_scripted_policies_need_no_torch():
    code = "import sys, anatomy_r1.agents, anatomy_r1.evaluation.run; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "False"


@pytest.mark.slow
def test_a_type_checker_sees_an_editable_install(tmp_path):
    script = "from anatomy_r1.agents import make_policy\nreveal_type(make_policy('random').respond({}))\n"
    (tmp_path / "script.py").write_text(script)
    command = [sys.executable, "-m", "mypy", "--cache-dir", str(tmp_path / "cache"), "script.py"]
    seen = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True).stdout
    assert 'Revealed type is "list[anatomy_r1.agents.policies.protocol.Response]"' in seen, seen
