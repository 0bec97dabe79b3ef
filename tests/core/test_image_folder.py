import os

import pytest

from anatomy_r1.core import AnatomyError, ImageFolder


@pytest.fixture
def root(tmp_path):
    """``images/a.png`` and, linked from another disk, ``far/b.png``; a pipe, and a link to a file outside."""
    for name in ("data/images/a.png", "store/b.png", "secret.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "data/far").symlink_to(tmp_path / "store")
    (tmp_path / "data/link.png").symlink_to(tmp_path / "secret.png")
    os.mkfifo(tmp_path / "data/pipe.png")
    return tmp_path / "data"


@pytest.mark.parametrize("relative", ["images/a.png", "./images/a.png", "images//a.png", "images\\a.png"])
def test_a_file_is_found_however_its_path_is_written(root, relative):
    folder = ImageFolder(root)
    folder.check(relative)
    assert folder.source(relative).read_bytes() == b"x"


def test_accents_may_be_composed_or_not(root):
    (root / "caf\u00e9").mkdir()
    (root / "caf\u00e9/a.png").touch()
    folder = ImageFolder(root)
    folder.check("cafe\u0301/a.png")
    assert folder.source("cafe\u0301/a.png").is_file()


@pytest.mark.parametrize(
    "relative", ["none.png", "pipe.png", "images", "../secret.png", "images/../../secret.png", "/etc/passwd", "\x00"]
)
def test_what_is_no_image_inside_is_refused(root, relative):
    with pytest.raises(AnatomyError, match="image "):
        ImageFolder(root).check(relative)


@pytest.mark.parametrize(("relative", "store"), [("far/b.png", "store"), ("link.png", "")])
def test_links_out_are_followed_into_the_folder_that_is_named_and_nowhere_else(root, relative, store):
    with pytest.raises(AnatomyError, match="leads out of it; if that is meant, say follow_links="):
        ImageFolder(root).check(relative)
    folder = ImageFolder(root, follow_links=root.parent / store)
    folder.check(relative)
    assert folder.source(relative).read_bytes() == b"x"
    with pytest.raises(AnatomyError, match="leads out"):
        ImageFolder(root, follow_links=root / "images").check(relative)


def test_images_that_are_not_required_need_not_be_there(root):
    folder = ImageFolder(root, required=False)
    folder.check("none.png")
    assert folder.source("none.png") == root / "none.png"
