"""Label tables and colour masks in the forms that people have them."""

import json

import numpy as np
import pytest
from PIL import Image as Pil

from anatomy_r1.banks import open_bank
from anatomy_r1.core import AnatomyError
from anatomy_r1.evaluation.audits import validate

ORGANS = ("liver", "spleen", "stomach", "gallbladder")
COLOURS = ((255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0))
CSV = "value,name\n1,liver\n2,spleen\n3,stomach\n4,gallbladder\n"


def quarters(values=(1, 2, 3, 4)):
    found = np.zeros((64, 64), np.uint8)
    found[4:30, 4:30], found[4:30, 34:60], found[34:60, 4:30], found[34:60, 34:60] = values
    return found


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "labels").mkdir()
    pixels = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    Pil.fromarray(pixels).save(tmp_path / "images/a.png")
    Pil.fromarray(quarters()).save(tmp_path / "labels/a.png")
    (tmp_path / "labels.csv").write_text(CSV)
    return tmp_path


def asked(folder, **options):
    bank = open_bank(f"masks:{folder}", **options)
    return [(q.stem, q.options, q.answer, q.details.get("marker")) for q in map(bank.question, range(len(bank)))]


@pytest.mark.parametrize(
    "text",
    [
        CSV.replace(",", ";"),
        CSV.replace(",", "\t"),
        CSV.replace(",", ", "),
        CSV.replace("value,name", "Value,Name"),
        "\ufeff" + CSV.replace("\n", "\r\n"),
        CSV.replace("value,", "id,"),
        CSV.replace("1,", "1.0,", 1),
        CSV + "0,background\n",
        CSV.replace("name\n", "name,kind,parent\n"),
    ],
)
def test_a_csv_table_in_any_usual_form(folder, text):
    expected = asked(folder)
    (folder / "labels.csv").write_text(text, encoding="utf-8")
    assert asked(folder) == expected


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("labels.json", {str(value): name for value, name in enumerate(ORGANS, start=1)}),
        ("labels.json", {"background": 0} | {name: value for value, name in enumerate(ORGANS, start=1)}),
        ("labels.json", [{"classid": value, "name": name} for value, name in enumerate(ORGANS, start=1)]),
        ("dataset.json", {"labels": {"background": 0} | {name: at for at, name in enumerate(ORGANS, start=1)}}),
        ("dataset.json", {"labels": {"0": "background"} | {str(at): name for at, name in enumerate(ORGANS, start=1)}}),
    ],
)
def test_a_json_table_in_any_usual_form(folder, name, content):
    expected = asked(folder)
    (folder / "labels.csv").unlink()
    (folder / name).write_text(json.dumps(content))
    assert asked(folder) == expected


def test_regions_of_several_labels_are_refused(folder):
    (folder / "labels.csv").unlink()
    (folder / "dataset.json").write_text(json.dumps({"labels": {"background": 0, "tumour": [1, 2], "core": 2}}))
    with pytest.raises(AnatomyError, match=r"dataset\.json.*whole number"):
        open_bank(f"masks:{folder}")


@pytest.mark.parametrize(
    "table",
    [
        "r,g,b,name\n" + "".join(f"{r},{g},{b},{n}\n" for (r, g, b), n in zip(COLOURS, ORGANS, strict=True)),
        "name,color\n" + "".join(f"{n},#{r:02x}{g:02x}{b:02x}\n" for (r, g, b), n in zip(COLOURS, ORGANS, strict=True)),
        'name,rgb\nbackground,"0,0,0"\n'
        + "".join(f'{n},"({r}, {g}, {b})"\n' for (r, g, b), n in zip(COLOURS, ORGANS, strict=True)),
    ],
)
@pytest.mark.parametrize("palette", [False, True])
def test_masks_in_colours_are_read_by_the_colours_of_the_table(folder, table, palette):
    expected = asked(folder)
    mask = Pil.fromarray(np.array([(0, 0, 0), *COLOURS], np.uint8)[quarters()])
    (mask.convert("P", palette=Pil.Palette.ADAPTIVE, colors=5) if palette else mask).save(folder / "labels/a.png")
    if not palette:  # whose indices count as values
        with pytest.raises(AnatomyError, match="give each structure's colour in the table"):
            asked(folder)
    (folder / "labels.csv").write_text(table)
    assert asked(folder) == expected


def test_endovis_has_both_values_and_colours(folder):
    expected = asked(folder)
    (folder / "labels.csv").unlink()
    rows = [{"name": "background-tissue", "color": [0, 0, 0], "classid": 0}]
    rows += [
        {"name": n, "color": list(c), "classid": at} for at, (n, c) in enumerate(zip(ORGANS, COLOURS, strict=True), 1)
    ]
    (folder / "labels.json").write_text(json.dumps(rows))
    assert asked(folder) == expected  # by value
    Pil.fromarray(np.array([(0, 0, 0), *COLOURS], np.uint8)[quarters()]).save(folder / "labels/a.png")
    assert asked(folder) == expected  # by colour


@pytest.mark.parametrize("row", ["256,0,0,x", "1,2,,x", "red,0,0,x"])
def test_a_broken_colour_is_named(folder, row):
    (folder / "labels.csv").write_text(f"r,g,b,name\n{row}\n")
    with pytest.raises(AnatomyError, match=r"labels\.csv:2"):
        open_bank(f"masks:{folder}")


def test_a_background_row_is_never_an_option(folder):
    (folder / "labels.csv").write_text(CSV + "0,Background\n9,unlabelled\n")
    bank = open_bank(f"masks:{folder}")
    assert bank.structures == ORGANS


def test_values_that_the_table_lacks_are_reported(folder):
    mask = quarters()
    mask[:2] = 255
    Pil.fromarray(mask).save(folder / "labels/a.png")
    (folder / "labels.csv").write_text("value,name\n0,liver\n1,spleen\n2,stomach\n3,gallbladder\n")
    found = validate(open_bank(f"masks:{folder}"))
    assert found.notes == [f"the value {value} is in 1 of 1 label maps, but not in the table" for value in (4, 255)]
    assert found.as_json()["notes"] == found.notes
    Pil.fromarray(quarters() * 60).save(folder / "labels/a.png")
    with pytest.raises(AnatomyError, match="no frame affords a question; the value 60 is in 1 of 1 label maps"):
        open_bank(f"masks:{folder}").question(0)


def test_hidden_files_beside_images_and_masks_do_not_count(folder):
    (folder / "images/._a.png").write_bytes(b"\0\5\x16\7")
    (folder / "images/.DS_Store").write_bytes(b"\0")
    (folder / "images/b.PNG").write_bytes((folder / "images/a.png").read_bytes())
    (folder / "labels/b.PNG").write_bytes((folder / "labels/a.png").read_bytes())
    bank = open_bank(f"masks:{folder}")
    assert len(bank) == 16 and not bank.refused


def test_nnu_nets_folders_open_as_they_are(folder):
    (folder / "imagesTr").mkdir()
    (folder / "images/a.png").rename(folder / "imagesTr/a_0000.png")
    (folder / "labels").rename(folder / "labelsTr")
    (folder / "labels.csv").unlink()
    (folder / "dataset.json").write_text(json.dumps({"labels": {name: at for at, name in enumerate(ORGANS, start=1)}}))
    assert len(open_bank(f"masks:{folder}", images="imagesTr/*_0000.*", labels="labelsTr/{case}")) == 8
