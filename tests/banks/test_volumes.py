"""Volumes: their geometry, windows and words, the formats they come in, and how they are kept."""

import os
import re
import sys

import numpy as np
import pytest

from anatomy_r1.banks import open_bank
from anatomy_r1.banks.generate import grammar
from anatomy_r1.banks.masks.formats import read_grid
from anatomy_r1.core import AnatomyError
from anatomy_r1.curricula.edits import GrammarRewrite

nibabel = pytest.importorskip("nibabel")
SHAPE = (40, 32, 12)
RAS = np.diag([2.0, 2.0, 4.0, 1.0])
NAMES = ("kidney_left", "kidney_right", "liver", "aorta", "lung_upper_lobe_left", "vertebrae_L1")
PLACES = (
    np.s_[5:12, 6:12],
    np.s_[28:35, 6:12],
    np.s_[22:36, 16:28],
    np.s_[17:23, 10:14],
    np.s_[4:14, 16:28],
    np.s_[16:24, 2:8],
)
VALUES = (40, 45, 60, 150, -800, 600)
"""Six blocks; x grows to the patient's right, y to anterior."""


def phantom():
    labels, image = np.zeros(SHAPE, np.uint8), np.full(SHAPE, -1000, np.int16)
    for value, (place, level) in enumerate(zip(PLACES, VALUES, strict=True), start=1):
        labels[(*place, slice(2, 10))] = value
        image[(*place, slice(2, 10))] = level + 8 * (np.arange(8) % 3)
    return image, labels


def nifti(voxels, affine, path, coded=True):
    found = nibabel.Nifti1Image(voxels, affine if coded else None)
    if not coded:
        found.header.set_zooms((2.0, 2.0, 4.0))
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(found, path)


def write(root, image=None, labels=None, affine=RAS, label_affine=None, coded=True, label_coded=None):
    """A folder with one case; what isn't given is the phantom's."""
    whole = phantom()
    nifti(whole[0] if image is None else image, affine, root / "images/a.nii.gz", coded)
    shown = affine if label_affine is None else label_affine
    nifti(
        whole[1] if labels is None else labels,
        shown,
        root / "labels/a.nii.gz",
        coded if label_coded is None else label_coded,
    )
    table = "".join(f"{value},{name}\n" for value, name in enumerate(NAMES, start=1))
    (root / "labels.csv").write_text(f"value,name\n{table}")
    return root


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")


def opened(root, **options):
    return open_bank(f"masks:{root}", **({"modality": "CT", "per_frame": 12} | options))


def every(bank):
    return [bank.question(at) for at in range(len(bank))]


def asked(bank):
    """What is asked, whatever the files are called."""
    return [(q.stem, q.options, q.answer, q.details.get("marker"), q.pixels().tobytes()) for q in every(bank)]


def shift(x=0.0, y=0.0, z=0.0):
    moved = RAS.copy()
    moved[:3, 3] += [x, y, z]
    return moved


def rotated(degrees):
    turn, angle = np.eye(4), np.radians(degrees)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    return turn @ RAS


MIRRORED = RAS @ np.diag([-1.0, 1, 1, 1])


@pytest.mark.parametrize("affine", [shift(60), shift(z=1), MIRRORED, RAS @ np.diag([2.0, 2, 2, 1]), np.eye(4)])
def test_labels_elsewhere_in_space_are_refused_with_both_geometries(tmp_path, affine):
    with pytest.raises(AnatomyError, match=r"labels of 40×32×12 voxels .*, but the image has 40×32×12 voxels"):
        opened(write(tmp_path, label_affine=affine))


def test_labels_stored_in_another_order_of_the_same_space_are_the_same(tmp_path):
    flipped = RAS.copy()
    flipped[0] = [-2, 0, 0, 78]
    straight = asked(opened(write(tmp_path / "one")))
    turned = write(tmp_path / "two", labels=phantom()[1][::-1], label_affine=flipped)
    assert asked(opened(turned)) == straight
    nearly = write(tmp_path / "three", label_affine=shift(0.05))  # headers are rounded
    assert asked(opened(nearly)) == straight


def test_labels_on_another_grid_are_resampled_on_request(tmp_path):
    coarse = phantom()[1][::2, ::2]
    affine = RAS @ np.diag([2.0, 2, 1, 1])
    affine[:2, 3] = 0
    root = write(tmp_path, labels=coarse, label_affine=affine)
    with pytest.raises(AnatomyError, match="geometry=resample brings them together"):
        opened(root)
    bank = opened(root, geometry="resample")
    labels, known = bank.regions(0).labels, phantom()[1][:, :, bank.question(0).details["slice"]]
    assert (labels == known.T[::-1, ::-1]).mean() > 0.9 and set(np.unique(labels)) == set(np.unique(known))
    with pytest.raises(AnatomyError, match="share no space"):
        opened(write(tmp_path / "far", label_affine=shift(600)), geometry="resample")


def test_headers_can_be_ignored(tmp_path):
    straight = asked(opened(write(tmp_path / "one")))
    assert asked(opened(write(tmp_path / "two", label_affine=np.eye(4)), geometry="ignore")) == straight


def test_an_unknown_orientation_is_not_called_radiological_and_sides_are_not_asked(tmp_path):
    bank = opened(write(tmp_path, coded=False), per_frame=40)
    questions = every(bank)
    for question in questions:
        assert question.preface == "CT slice, orientation unknown."
        twin = {"left kidney": "right kidney", "right kidney": "left kidney"}.get(question.structure)
        assert twin not in question.options
        assert not re.search(r"patient|anterior|posterior|left in|right in|medial|lateral", question.stem)
    assert any("higher in the image than" in question.stem for question in questions)
    with pytest.raises(AnatomyError, match="orientation unknown, but the image has"):
        opened(write(tmp_path / "half", label_coded=False))


def test_oblique_slices_are_refused_or_set_upright(tmp_path):
    assert len(opened(write(tmp_path / "slight", affine=rotated(3))))
    root = write(tmp_path / "oblique", affine=rotated(20))
    with pytest.raises(AnatomyError, match="oblique by 20°, so no slice is axial"):
        opened(root)
    bank = opened(root, geometry="resample")
    questions = every(bank)
    assert questions[0].pixels().shape[1] > 40  # the box around what was turned
    marked = next(q for q in questions if q.question_type == "marked" and q.structure == "liver")
    labels = bank.regions(questions.index(marked)).labels
    x, y = marked.details["marker"]
    assert labels[int(y * labels.shape[0]), int(x * labels.shape[1])] == 3


def test_each_window_is_recorded_and_asks_of_what_it_shows(tmp_path):
    root = write(tmp_path)
    soft = {"left kidney", "right kidney", "liver", "aorta"}
    expected = {
        "lung": {"upper lobe of the left lung"},
        "bone": {"L1 vertebra"},
        "soft-tissue": soft,
        "mediastinum": soft,
    }
    for window, structures in expected.items():
        questions = every(opened(root, window=window))
        assert {q.structure for q in questions} == structures
        assert {q.details["window"]["name"] for q in questions} == {window}
        assert all(q.preface == f"Axial CT slice, {window} window, radiological display." for q in questions)
    questions = every(opened(root, per_frame=40))
    shown = {q.structure: q.details["window"]["name"] for q in questions}
    assert set(shown) == soft | {"upper lobe of the left lung", "L1 vertebra"}
    assert (
        shown["L1 vertebra"] == "bone"
        and shown["upper lobe of the left lung"] == "lung"
        and shown["liver"] == "soft-tissue"
    )
    assert all("window" not in q.preface for q in questions)  # it would tell of the answer
    for window in ("-160 240", [-160, 240]):
        found = opened(root, window=window).question(0).details["window"]
        assert found == {"name": "", "low": -160.0, "high": 240.0}
    for window in ("liver", "240 -160", "1", [1, 2, 3]):
        with pytest.raises(AnatomyError, match="window must be"):
            opened(root, window=window)


def test_ct_stored_from_zero_looks_like_any_other(tmp_path):
    plain = asked(opened(write(tmp_path / "one")))
    assert asked(opened(write(tmp_path / "two", image=(phantom()[0] + 1024).astype(np.uint16)))) == plain
    for modality, called in (("MR", "MR "), ("", "")):
        other = opened(
            write(tmp_path / f"x{modality}", image=(phantom()[0] + 1024).astype(np.uint16)), modality=modality
        )
        assert other.question(0).preface == f"Axial {called}slice, radiological display."
        assert other.question(0).details["window"]["name"] == ""


def test_mr_is_bright_whatever_its_outliers(tmp_path):
    image = np.clip(phantom()[0] + 1000, 0, 2000).astype(np.float32)
    image[0, 0, 0] = 1e6
    image[:3] = np.nan  # outside the body
    bank = opened(write(tmp_path, image=image), modality="MR")
    pixels = next(q for q in every(bank) if q.question_type == "size").pixels()
    assert pixels.max() > 240 and np.percentile(pixels, 60) < 20


@pytest.mark.parametrize("plane", ["axial", "coronal", "sagittal"])
@pytest.mark.parametrize("terms", ["anatomical", "image"])
def test_a_sentence_speaks_of_the_patient_or_of_the_image(shared, plane, terms):
    root = shared / "totalsegmentator/mr"
    questions = every(opened(root, plane=plane, terms=terms, kinds="relation", per_frame=2, modality="MR", every=3))
    text = " ".join(q.stem for q in questions)
    assert ("in the image" in text) == (terms == "image")
    assert ("patient" in text or "medial" in text or "lateral" in text) == (
        terms == "anatomical" and plane != "sagittal"
    )
    for question in questions:
        sideways = "left in the image" in question.stem or "right in the image" in question.stem
        assert not (sideways and re.search(r"the (left|right) kidney", question.stem))


def test_medial_is_towards_the_midline(tmp_path):
    labels = phantom()[1]
    labels[2:4, 6:12, 2:10] = 7  # further left than the left kidney
    root = write(tmp_path, labels=labels)
    with (root / "labels.csv").open("a") as file:
        file.write("7,gluteus_medius_left\n")
    stems = {(q.stem, q.structure) for q in every(opened(root, kinds="relation", modality="MR", per_frame=60))}
    assert any("lateral to the left kidney" in stem and name == "left gluteus medius" for stem, name in stems)
    assert any("medial to the left gluteus medius" in stem and name == "left kidney" for stem, name in stems)
    assert not any("medial to the left kidney" in stem and name == "left gluteus medius" for stem, name in stems)


def test_gdqa_reaches_volumes(tmp_path):
    found = [q for q in every(opened(write(tmp_path))) if q.question_type not in ("marked", "size")]
    assert len(found) > 40
    for question in found:
        parsed = grammar.parse(question.stem)
        assert grammar.render(parsed) == question.stem and not GrammarRewrite().refuses(question)
        assert question.question_type == "location" or grammar.rewrites(parsed)


def test_names_are_a_clinicians_unless_they_shall_stay(tmp_path):
    root = write(tmp_path)
    assert opened(root).structures == (
        "left kidney",
        "right kidney",
        "liver",
        "aorta",
        "upper lobe of the left lung",
        "L1 vertebra",
    )
    assert opened(root, rename=False).structures[-1] == "vertebrae L1"


def masks_of(root, cases=("s0001", "s0002"), missing=()):
    image, labels = phantom()
    for case in cases:
        nifti(image, RAS, root / case / "ct.nii.gz")
        for value, name in enumerate(NAMES, start=1):
            if (case, name) not in missing:
                nifti((labels == value).astype(np.uint8), RAS, root / case / f"segmentations/{name}.nii.gz")
    return root


RECIPE = {"images": "*/ct.nii.gz", "labels": "{folder}/segmentations"}


@pytest.mark.parametrize("case", ["s0001", "s0002"])
def test_a_missing_mask_is_an_absent_structure_and_other_files_do_not_count(tmp_path, case):
    root = masks_of(tmp_path, missing={(case, "liver")})
    for name in ("statistics.json", ".DS_Store", "preview_total.png", "._aorta.nii.gz"):
        (root / case / "segmentations" / name).write_bytes(b"{}")
    bank = opened(root, **RECIPE)
    questions = every(bank)
    assert len(bank.structures) == 6 and not bank.refused
    assert {q.group_key for q in questions if q.structure == "liver"} == {"s0001", "s0002"} - {case}
    assert all("liver" in q.details["absent"] for q in questions if q.group_key == case and "liver" in q.options)


def test_a_case_may_be_asked_only_among_what_it_labels(tmp_path):
    root = masks_of(tmp_path, missing={("s0002", name) for name in NAMES[2:]})
    questions = every(opened(root, **RECIPE, labelled_only=True))
    assert any(len(q.options) > 2 for q in questions)
    for question in (q for q in questions if q.group_key == "s0002"):
        assert set(question.options) | set(question.distractors) == {"left kidney", "right kidney"}


def test_where_all_wrong_options_are_absent_nothing_is_asked_by_default(tmp_path):
    labels = phantom()[1]
    root = write(tmp_path, labels=np.where(labels == 3, 3, 0).astype(np.uint8))
    with pytest.raises(AnatomyError, match="allow_absent"):
        opened(root).question(0)
    question = opened(root, allow_absent=True).question(0)
    assert question.structure == "liver" and set(question.details["absent"]) == set(question.options) - {"liver"}


def test_names_from_the_header_of_a_label_map(tmp_path):
    root = write(tmp_path)
    (root / "labels.csv").unlink()
    image = nibabel.load(root / "labels/a.nii.gz")
    rows = "".join(f'<Label Key="{k}" Red="0"><![CDATA[{name}]]></Label>' for k, name in enumerate(NAMES, start=1))
    image.header.extensions.append(nibabel.nifti1.Nifti1Extension(0, f"<LabelTable>{rows}</LabelTable>".encode()))
    nibabel.save(image, root / "labels/b.nii.gz")
    (root / "labels/b.nii.gz").replace(root / "labels/a.nii.gz")
    assert opened(root).structures[0] == "left kidney" and len(opened(root).structures) == 6


@pytest.mark.parametrize("extra", [(1,), (1, 1)])
def test_axes_of_length_one_do_not_count(tmp_path, extra):
    image, labels = phantom()
    plain = asked(opened(write(tmp_path / "one")))
    assert (
        asked(opened(write(tmp_path / "two", image=image.reshape(*SHAPE, *extra), labels=labels[..., None]))) == plain
    )
    flat = opened(write(tmp_path / "three", image=image[..., 5], labels=labels[..., 5]))
    assert len(flat) == 12 and flat.question(0).pixels().shape == (32, 40, 3)


def test_of_several_volumes_one_is_chosen(tmp_path):
    image = phantom()[0]
    root = write(tmp_path / "two", image=np.stack([image * 0, image], axis=-1))
    with pytest.raises(AnatomyError, match=r"2 volumes in one file.*option time"):
        opened(root)
    with pytest.raises(AnatomyError, match="time must lie in 0 to 1, got 2"):
        opened(root, time=2)
    assert asked(opened(root, time=1)) == asked(opened(write(tmp_path / "one")))


def test_small_images_are_enlarged_on_request(tmp_path):
    root = write(tmp_path)
    assert opened(root, size=80).question(0).pixels().shape == (32, 40, 3)
    assert opened(root, size=80, enlarge=True).question(0).pixels().shape == (64, 80, 3)
    assert opened(root, size=32, enlarge=True).question(0).pixels().shape == (26, 32, 3)


def test_a_case_is_packed_once_and_again_when_a_file_changes(tmp_path):
    root = write(tmp_path)
    before = asked(opened(root, cache=tmp_path / "kept"))
    (packed,) = (tmp_path / "kept").iterdir()
    stamp = packed.stat().st_mtime_ns
    assert asked(opened(root, cache=tmp_path / "kept")) == before and packed.stat().st_mtime_ns == stamp
    write(tmp_path, labels=phantom()[1][::-1].copy())
    assert asked(opened(root, cache=tmp_path / "kept")) != before
    assert len(list((tmp_path / "kept").iterdir())) == 2
    (tmp_path / "file").touch()
    with pytest.raises(AnatomyError, match="option cache"):
        opened(root, cache=tmp_path / "file")


def test_a_torn_packed_case_is_packed_again(tmp_path, monkeypatch):
    from anatomy_r1.banks.masks import volumes

    root = write(tmp_path)
    before = asked(opened(root))
    for path in (tmp_path / "here/runs/cache").iterdir():
        path.write_bytes(path.read_bytes()[:-20])
    volumes.packed.cache_clear()
    assert asked(opened(root)) == before


def test_order_of_calls_does_not_matter(tmp_path):
    root = masks_of(tmp_path)
    bank, order = opened(root, **RECIPE), np.random.default_rng(0).permutation(12 * 24)
    shuffled = {int(at): bank.question(int(at)) for at in order}
    assert [shuffled[at] for at in range(len(bank))] == every(opened(root, **RECIPE))


def test_frames_without_questions_pass_their_turns_evenly_and_none_asks_twice(tmp_path):
    questions = every(opened(write(tmp_path), per_frame=20))
    slices = [q.details["slice"] for q in questions]
    counts = np.bincount(slices, minlength=12)
    assert counts[:2].sum() == counts[10:].sum() == 0 and counts[2:10].max() <= 45
    own = [q for at, q in enumerate(questions) if q.details["slice"] == at // 20]
    assert len({(q.details["slice"], q.stem, frozenset(q.options), str(q.details.get("marker"))) for q in own}) == 160


def test_labels_that_are_no_volume_are_named(tmp_path):
    root = write(tmp_path)
    (root / "labels/a.nii.gz").rename(tmp_path / "x.nii.gz")
    (root / "labels/a.png").write_bytes(b"")
    with pytest.raises(AnatomyError, match=r"a\.png: expected labels that are a volume"):
        opened(root)


@pytest.mark.parametrize("suffix", ["nrrd", "mha", "mhd"])
def test_nrrd_and_metaimage_are_read_like_nifti(tmp_path, suffix):
    itk = pytest.importorskip("SimpleITK")
    plain = asked(opened(write(tmp_path / "one")))
    root = write(tmp_path / "two")
    for part in ("images", "labels"):
        itk.WriteImage(itk.ReadImage(str(root / part / "a.nii.gz")), str(root / part / f"a.{suffix}"))
        (root / part / "a.nii.gz").unlink()
    assert asked(opened(root)) == plain


def dicom_series(folder, voxels, affine, series="1.2.9", skip=None):
    """Write slices as DICOM: x to the patient's left, y to posterior, in a shuffled order."""
    pydicom = pytest.importorskip("pydicom")
    folder.mkdir(parents=True)
    lps = np.diag([-1.0, -1, 1, 1]) @ affine
    zooms = np.sqrt((affine[:3, :3] ** 2).sum(axis=0))
    for at in range(voxels.shape[2]):
        if at == skip:
            continue
        data = pydicom.Dataset()
        data.file_meta = pydicom.dataset.FileMetaDataset()
        data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
        data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID = f"1.2.3.{at + 1}"
        data.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
        data.SeriesInstanceUID = series
        data.Rows, data.Columns, data.SamplesPerPixel = voxels.shape[1], voxels.shape[0], 1
        data.PhotometricInterpretation, data.PixelRepresentation = "MONOCHROME2", 0
        data.BitsAllocated, data.BitsStored, data.HighBit = 16, 16, 15
        data.RescaleSlope, data.RescaleIntercept = 1, -1024
        data.PixelSpacing = [float(zooms[1]), float(zooms[0])]
        data.ImageOrientationPatient = [float(v) for k in (0, 1) for v in lps[:3, k] / zooms[k]]
        data.ImagePositionPatient = [float(v) for v in (lps @ [0, 0, at, 1])[:3]]
        data.PixelData = np.ascontiguousarray((voxels[..., at] + 1024).T.astype(np.uint16)).tobytes()
        data.save_as(folder / f"{(at * 7) % voxels.shape[2]:03d}.dcm", enforce_file_format=True)


def test_a_dicom_series_is_a_volume(tmp_path):
    plain = asked(opened(write(tmp_path / "one")))
    root = write(tmp_path / "two")
    (root / "images/a.nii.gz").unlink()
    dicom_series(root / "images/a", phantom()[0], RAS)
    assert asked(opened(root, images="images/*")) == plain
    dicom_series(root / "images/b", phantom()[0], RAS, skip=5)
    (root / "labels/b.nii.gz").write_bytes((root / "labels/a.nii.gz").read_bytes())
    with pytest.raises(AnatomyError, match="one is missing"):
        opened(root, images="images/*")


@pytest.mark.parametrize(
    ("module", "name", "extra"),
    [("nibabel", "a.nii.gz", "brain"), ("SimpleITK", "a.nrrd", "itk"), ("pydicom", "a.dcm", "dicom")],
)
def test_a_missing_extra_is_one_line(tmp_path, monkeypatch, module, name, extra):
    root = write(tmp_path)
    (root / "images/a.nii.gz").unlink()
    (root / "images" / name).write_bytes(b"\0" * 128 + b"DICM")
    monkeypatch.setitem(sys.modules, module, None)
    if extra == "dicom":
        (root / "labels/a.nii.gz").unlink()
        np.save(root / "labels/a.npy", phantom()[1][..., 5])
    with pytest.raises(AnatomyError, match=rf"pip install 'anatomy-r1\[{extra}\]'") as caught:
        opened(root)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("ElementDataFile = pipe.raw", "it is a pipe"),
        ("data file: pipe.raw", "it is a pipe"),
        ("ElementDataFile = /dev/zero", "expected a file in the same folder"),
        ("ElementDataFile = ../other.raw", "expected a file in the same folder"),
        ("data file: LIST", "lie in several files"),
        ("ElementDataFile = slice%03d.raw 1 40 1", "lie in several files"),
        ("ElementDataFile = gone.raw", "can't be read"),
    ],
)
def test_voxels_beside_their_header_are_a_regular_file_of_the_same_folder(tmp_path, monkeypatch, line, problem):
    monkeypatch.setitem(sys.modules, "SimpleITK", type(sys)("SimpleITK"))  # never reached
    os.mkfifo(tmp_path / "pipe.raw")
    header = tmp_path / "a.mhd"
    header.write_text(f"NDims = 3\nDimSize = 4 4 4\nElementType = MET_SHORT\n{line}\n")
    with pytest.raises(AnatomyError, match=problem):
        read_grid(header)


def test_slices_are_cut_without_copying_the_volume(tmp_path):
    """A copy of a large volume for each of its slices takes minutes."""
    from anatomy_r1.banks.masks import formats, geometry, volumes

    path = write(tmp_path) / "labels/a.nii.gz"
    voxels = formats.read_voxels(path)
    grid = geometry.turn_of(formats.read_grid(path)).grid(formats.read_grid(path))
    for plane, axis in geometry.PLANES.items():
        case = volumes.Case(tmp_path / "images/a.nii.gz", ((path, 0),), plane, 1, "same", None, tmp_path)
        cuts = [*volumes._cuts(case, path, voxels, grid, range(grid.shape[axis]), 0)]
        assert all(np.shares_memory(cut, voxels) for cut in cuts if cut is not None)
        assert sum(cut.sum() for cut in cuts if cut is not None) == voxels.sum()


def test_a_relation_on_a_slice_that_the_whole_scan_contradicts_is_not_asked(tmp_path):
    """On some slices the liver lies above the left kidney, though as a whole it lies below."""
    labels = np.zeros((24, 24, 30), np.uint8)
    labels[2:8, :, 12:16], labels[2:8, :, 24:28] = 3, 1
    labels[2:8, :6, 12:16], labels[2:8, :6, 24:28] = 1, 3
    labels[2:8, :, 2:6], labels[10:14, :, 2:6], labels[16:20, :, 2:6] = 4, 5, 6
    root = write(tmp_path, image=(labels * 20).astype(np.int16), labels=labels)
    bank = opened(root, plane="coronal", kinds="relation", modality="MR", per_frame=20)
    asked_of = {(q.details["slice"] < 6, q.structure, q.stem) for q in every(bank)}
    assert (False, "left kidney", "Which of these lies superior to the liver?") in asked_of
    assert not any(name == "liver" and "superior to the left kidney" in stem for _, name, stem in asked_of)
    assert not any(odd and "superior to the liver" in stem for odd, _, stem in asked_of)
    options = {option for q in every(bank) if "superior to the aorta" in q.stem for option in q.options}
    assert not {"left kidney", "liver"} <= options  # both do
