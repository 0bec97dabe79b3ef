import io
import sys

import numpy as np
import pytest
from PIL import Image as Pil

from anatomy_r1.core import AnatomyError, read_image

GRADIENT = np.linspace(0, 255, 20 * 30 * 3).reshape(20, 30, 3).astype(np.uint8)
LOSSLESS = {"PNG": {}, "WEBP": {"lossless": True}, "BMP": {}, "TIFF": {}}


def encoded(image: Pil.Image, kind: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def refused(path, message):
    with pytest.raises(AnatomyError, match=message) as caught:
        read_image(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", LOSSLESS)
def test_lossless_formats_keep_every_pixel(tmp_path, kind):
    path = tmp_path / "image"  # the content counts, not the name
    path.write_bytes(encoded(Pil.fromarray(GRADIENT), kind, **LOSSLESS[kind]))
    image = read_image(path)
    assert image.dtype == np.uint8 and (image == GRADIENT).all()
    image[:] = 0  # writable


def test_jpeg_in_rgb_grey_and_cmyk(tmp_path):
    for mode in ("RGB", "L", "CMYK"):
        path = tmp_path / f"{mode}.jpg"
        picture = Pil.fromarray(GRADIENT).convert(mode)
        path.write_bytes(encoded(picture, "JPEG", quality=95))
        expected = np.asarray(picture.convert("RGB")).astype(int)
        assert np.abs(read_image(path) - expected).mean() < 6, mode


@pytest.mark.parametrize(
    "orientation, turned",
    [
        (3, lambda a: a[::-1, ::-1]),
        (6, lambda a: np.rot90(a, -1)),
        (8, lambda a: np.rot90(a)),
        (2, lambda a: a[:, ::-1]),
    ],
)
def test_exif_orientation_is_applied(tmp_path, orientation, turned):
    exif = Pil.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "turned.png"
    path.write_bytes(encoded(Pil.fromarray(GRADIENT), exif=exif))
    assert (read_image(path) == turned(GRADIENT)).all()


def test_sixteen_bits_are_scaled_not_clipped(tmp_path):
    grey = np.array([[0, 257, 25700, 65535]], np.uint16)
    for name in ("deep.png", "deep.tif"):
        Pil.fromarray(grey).save(tmp_path / name)
        assert read_image(tmp_path / name)[0, :, 1].tolist() == [0, 1, 100, 255]


def test_floating_point_is_stretched_and_nan_refused(tmp_path):
    path = tmp_path / "float.tif"
    Pil.fromarray(np.array([[-1.0, 0.0, 1.0]], np.float32)).save(path)
    assert read_image(path)[0, :, 0].tolist() == [0, 127, 255]
    Pil.fromarray(np.array([[np.nan, 0.0]], np.float32)).save(path)
    refused(path, "not finite")


def test_palettes_alpha_and_one_bit_become_rgb(tmp_path):
    for mode in ("P", "RGBA", "LA", "1"):
        path = tmp_path / f"{mode}.png"
        picture = Pil.fromarray(GRADIENT).convert(mode)
        path.write_bytes(encoded(picture))
        assert (read_image(path) == np.asarray(picture.convert("RGB"))).all(), mode


@pytest.mark.parametrize("kind", ["WEBP", "PNG", "TIFF"])
def test_of_an_animation_the_first_frame(tmp_path, kind):
    frames = [Pil.fromarray(np.full((8, 8, 3), value, np.uint8)) for value in (10, 200)]
    path = tmp_path / "moving"
    options = {"lossless": True} if kind == "WEBP" else {}
    path.write_bytes(encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options))
    assert (read_image(path) == 10).all()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("shape", [(10_000, 8_000), (20_000, 10_000)])
def test_huge_images_are_refused_before_decoding(tmp_path, shape):
    path = tmp_path / "huge.png"
    path.write_bytes(encoded(Pil.new("1", shape)))
    assert path.stat().st_size < 100_000
    refused(path, "cap is 50,000,000")


def test_the_cap_is_inclusive_and_can_be_set(tmp_path):
    path = tmp_path / "image.png"
    path.write_bytes(encoded(Pil.fromarray(GRADIENT)))
    assert read_image(path, max_pixels=600).shape == (20, 30, 3)
    with pytest.raises(AnatomyError, match="30×20 = 600 pixels, the cap is 599"):
        read_image(path, max_pixels=599)


def test_missing_empty_foreign_and_folder(tmp_path):
    refused(tmp_path / "none.png", "not found")
    (tmp_path / "empty.png").touch()
    refused(tmp_path / "empty.png", "not a readable")
    (tmp_path / "text.png").write_text("P3 1 1 255 0 0 0")
    refused(tmp_path / "text.png", "not a readable")
    (tmp_path / "image.gif").write_bytes(encoded(Pil.fromarray(GRADIENT), "GIF"))
    refused(tmp_path / "image.gif", "not a readable")
    refused(tmp_path, "it is a folder")


@pytest.mark.filterwarnings("ignore")  # Pillow comments on what it finds
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP", "TIFF"])
def test_mutated_files_decode_or_are_refused(tmp_path, kind):
    rng = np.random.default_rng([7, len(kind), ord(kind[0])])
    whole = encoded(Pil.fromarray(GRADIENT), kind)
    path = tmp_path / "image"
    refusals = 0
    for turn in range(250):
        data = bytearray(whole)
        if turn % 3 == 0:
            data = data[: rng.integers(len(data))]
        for at in rng.integers(max(len(data), 1), size=rng.integers(1, 8)):
            data[at : at + 1] = rng.bytes(1)
        path.write_bytes(data)
        try:
            image = read_image(path, max_pixels=1_000_000)
            assert image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3
        except AnatomyError as error:
            refusals += 1
            assert str(path) in str(error)
    assert refusals > 50


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF"])
def test_truncated_files_are_named(tmp_path, kind):
    whole = encoded(Pil.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)), kind)
    path = tmp_path / "image"
    for share in (0.3, 0.6, 0.9):
        path.write_bytes(whole[: int(len(whole) * share)])
        refused(path, "broken|not a readable")


@pytest.mark.parametrize(
    ("most", "white"), [(65535, 255), (4095, 255), (1023, 255), (256, 255), (255, 255), (200, 200)]
)
@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_grey_of_any_depth_is_bright_and_monotone(tmp_path, most, white, suffix):
    path = tmp_path / f"x.{suffix}"
    Pil.fromarray(np.linspace(0, most, 512).astype(np.uint16)[None].repeat(4, 0)).save(path)
    row = read_image(path)[0, :, 0].astype(int)
    assert (row[0], row[-1]) == (0, white) and (np.diff(row) >= 0).all() and np.diff(row).max() <= 1


def test_a_value_more_makes_no_image_darker(tmp_path):
    """The step from what fits in 8 bits to what does not is no step in brightness."""
    whites = []
    for most in (254, 255, 256, 300):
        Pil.fromarray(np.array([[0, 100, most]], np.uint16)).save(tmp_path / "x.png")
        whites.append(read_image(tmp_path / "x.png")[0, :, 0].tolist())
    assert [row[2] for row in whites] == [254, 255, 255, 255]
    assert [row[1] for row in whites] == [100, 100, 99, 85]


def test_a_tiff_may_declare_its_depth_and_count_from_white(tmp_path):
    path, grey = tmp_path / "x.tif", np.array([[0, 1000, 2000]], np.uint16)
    Pil.fromarray(grey).save(path, tiffinfo={281: 4095})
    assert read_image(path)[0, :, 0].tolist() == [0, 62, 124]
    Pil.fromarray(grey).save(path, tiffinfo={262: 0})
    assert read_image(path)[0, :, 0].tolist() == [255, 127, 0]


def test_dicom_without_pydicom_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pydicom", None)
    (tmp_path / "x.dcm").write_bytes(b"\0" * 128 + b"DICM" + b"\0" * 99)
    refused(tmp_path / "x.dcm", r"anatomy-r1\[dicom\]")


def test_dicom_is_shown_in_its_window_and_from_dark_to_bright(tmp_path):
    pydicom = pytest.importorskip("pydicom")
    path, grey = tmp_path / "x.dcm", np.array([[0, 1000, 2000, 4000]], np.uint16)

    def write(**tags):
        data = pydicom.Dataset()
        data.file_meta = pydicom.dataset.FileMetaDataset()
        data.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.7"
        data.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
        data.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
        data.Rows, data.Columns, data.SamplesPerPixel, data.PixelRepresentation = 1, 4, 1, 0
        data.BitsAllocated, data.BitsStored, data.HighBit, data.PhotometricInterpretation = 16, 12, 11, "MONOCHROME2"
        data.PixelData = grey.tobytes()
        for name, value in tags.items():
            setattr(data, name, value)
        data.save_as(path, enforce_file_format=True)
        return read_image(path)[0, :, 0].tolist()

    assert write() == [0, 64, 128, 255]
    assert write(PhotometricInterpretation="MONOCHROME1") == [255, 191, 128, 0]
    assert write(WindowCenter=1500, WindowWidth=1000) == [0, 0, 255, 255]
    shifted = write(RescaleSlope=1, RescaleIntercept=-1000, WindowCenter=[0, 9], WindowWidth=[2000, 9])
    assert shifted == [
        0,
        128,
        255,
        255,
    ]
    path.write_bytes(path.read_bytes()[:300])
    refused(path, "DICOM")
