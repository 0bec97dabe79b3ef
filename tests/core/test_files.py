import os
import subprocess
import sys
from pathlib import Path

import pytest

from anatomy_r1.banks import JsonlBank
from anatomy_r1.core import (
    AnatomyError,
    read_image,
    read_json,
    read_jsonl,
    read_text,
    temporary_folder,
    write_bytes,
    write_json,
)


def test_a_torn_last_line_is_left_out(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"step": 1}\n{"step": 2}\n{"step": 3, "rew')
    assert [row["step"] for row in read_jsonl(path)] == [1, 2]


@pytest.mark.parametrize("bad", [b"{broken", b"[1, 2]", b"\xff\xfe\x00", b""])
def test_a_bad_line_before_the_last_is_named(tmp_path, bad):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"step": 1}\n' + bad + b'\n{"step": 3}\n')
    with pytest.raises(AnatomyError, match=r"rows.jsonl, line 2: expected a JSON object"):
        list(read_jsonl(path))


def test_line_separators_within_a_text_do_not_end_the_line(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"text": "one\u2028two\x85three\\r"}\n', encoding="utf-8")
    assert [row["text"] for row in read_jsonl(path)] == ["one\u2028two\x85three\r"]


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(AnatomyError, match=r"absent.jsonl: file not found"):
        list(read_jsonl(tmp_path / "absent.jsonl"))


def test_a_failed_write_leaves_the_old_file_and_no_litter(tmp_path):
    path = tmp_path / "results.json"
    write_json(path, {"accuracy": 0.5})
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(path, {"accuracy": float("nan")})
    assert path.read_text() == '{\n  "accuracy": 0.5\n}\n'
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_can_not_be_made_is_a_clear_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(AnatomyError, match=r"report.html: can't be written"):
        write_bytes(tmp_path / "file" / "report.html", b"x")


@pytest.fixture
def endless(tmp_path):
    """Files that never end, or never begin."""
    os.mkfifo(tmp_path / "pipe")
    return {"pipe": tmp_path / "pipe", "a device": Path("/dev/zero"), "a folder": tmp_path}


@pytest.mark.parametrize("kind", ["pipe", "a device", "a folder"])
@pytest.mark.parametrize("read", [read_text, read_json, lambda path: list(read_jsonl(path)), read_image, JsonlBank])
def test_only_regular_files_are_read(endless, kind, read):
    with pytest.raises(AnatomyError, match=rf"expected a file, it is (a )?{kind}"):
        read(endless[kind])


def test_a_file_too_large_is_refused_unread(tmp_path):
    with (tmp_path / "huge.json").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(AnatomyError, match="bytes, expected at most 536,870,912"):
        read_json(tmp_path / "huge.json")
    with pytest.raises(AnatomyError, match="expected at most 10"):
        read_text(tmp_path / "huge.json", 10)


def test_a_temporary_folder_goes_with_its_owner_or_with_the_process():
    class Owner:
        pass

    owner = Owner()
    folder = temporary_folder(owner)
    (folder / "file").write_text("x")
    del owner
    assert not folder.exists()
    code = (
        "import sys, anatomy_r1.core as core\nowner = lambda: 0\nprint(core.temporary_folder(owner), flush=True)\n"
        "raise SystemExit(2)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 2 and done.stdout.strip() and not Path(done.stdout.strip()).exists()
