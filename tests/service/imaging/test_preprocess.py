"""Image files are decoded as the input of a model."""

import io
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from PIL import Image

from service.imaging.limits import InvalidImage
from service.imaging.preprocess import DECODER, read_image
from tests.images import Pixels, encoded, image_input, photograph, turned
from tests.odd_images import bombs

COLOR = image_input(12, 16)
GRAY = image_input(12, 16, channels=1)
SEEN = photograph(12, 16)
LOSSLESS: dict[str, dict[str, Any]] = {
    "JPEG": {"quality": 100, "subsampling": 0},
    "WEBP": {"lossless": True},
    "AVIF": {"quality": 100, "subsampling": "4:4:4"},
}


def luma(color: Pixels) -> Pixels:
    """Compute the luma of ITU-R 601 with numpy, rounded."""
    gray: Pixels = np.round(color @ np.array([0.299, 0.587, 0.114])).astype(np.uint8)
    return gray[:, :, None]


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM", "WEBP", "JPEG2000", "AVIF"])
def test_an_image_of_the_right_size_is_not_changed(kind: str) -> None:
    """The pixels of all lossless formats are read exactly."""
    options = LOSSLESS.get(kind, {})

    read = read_image(encoded(SEEN, kind, **options), COLOR)

    assert read.dtype == np.uint8
    assert np.abs(read.astype(int) - SEEN).max() <= (4 if kind == "AVIF" else 0)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_an_image_is_rotated_by_its_exif_orientation(orientation: int, kind: str) -> None:
    """Images of all eight orientations are decoded upright."""
    as_stored = {
        1: SEEN,
        2: SEEN[:, ::-1],
        3: SEEN[::-1, ::-1],
        4: SEEN[::-1],
        5: SEEN.transpose(1, 0, 2),
        6: SEEN.transpose(1, 0, 2)[::-1],
        7: SEEN.transpose(1, 0, 2)[::-1, ::-1],
        8: SEEN.transpose(1, 0, 2)[:, ::-1],
    }[orientation]
    stored = np.ascontiguousarray(as_stored)

    read = read_image(
        encoded(stored, kind, exif=turned(orientation), **LOSSLESS.get(kind, {})), COLOR
    )

    assert np.abs(read.astype(int) - SEEN).max() <= (3 if kind == "JPEG" else 0)


def test_a_large_photograph_is_rotated_before_it_is_fitted() -> None:
    """A sideways photograph that is decoded at a reduced size equals the upright one."""
    large = photograph(1500, 2000)
    sideways = np.ascontiguousarray(large.transpose(1, 0, 2)[::-1])
    rule = image_input(60, 80, fit="crop")

    read = read_image(encoded(sideways, "JPEG", quality=95, exif=turned(6)), rule)

    upright = read_image(encoded(large, "PNG"), rule)
    assert np.abs(read.astype(int) - upright).max() <= 3


def test_a_palette_equals_its_colors() -> None:
    """An image with indexed colors is read like one with these colors."""
    few = Image.fromarray(SEEN).quantize(7)
    colors = np.asarray(few.convert("RGB"))

    for kind in ("PNG", "GIF", "BMP", "TIFF"):
        assert np.array_equal(read_image(encoded(few, kind), COLOR), colors)
        assert np.abs(read_image(encoded(few, kind), GRAY).astype(int) - luma(colors)).max() <= 1


@pytest.mark.parametrize("background", [0, 128, 255])
def test_transparent_pixels_show_the_background(background: int) -> None:
    """Alpha is composed with the background by the formula of Porter and Duff."""
    alpha = np.tile(np.linspace(0, 255, 16).astype(np.uint8), (12, 1))
    both = Image.fromarray(np.dstack([SEEN, alpha]))
    rule = image_input(12, 16, background=background)
    share = alpha[:, :, None] / 255

    for kind in ("PNG", "WEBP", "TIFF"):
        read = read_image(encoded(both, kind, **LOSSLESS.get(kind, {})), rule)
        expected = SEEN * share + background * (1 - share)
        assert np.abs(read - expected).max() <= 1


def test_a_transparent_palette_and_a_transparent_color_show_the_background() -> None:
    """Transparency without an alpha channel is supported too."""
    few = Image.fromarray(SEEN).quantize(7)
    indices = np.asarray(few)
    rule = image_input(12, 16, background=9)
    expected = np.where((indices == 3)[:, :, None], 9, np.asarray(few.convert("RGB")))
    plain = few.convert("RGB")
    color = plain.getpixel((0, 0))

    assert np.array_equal(read_image(encoded(few, "PNG", transparency=3), rule), expected)
    assert np.array_equal(read_image(encoded(few, "GIF", transparency=3), rule), expected)
    read = read_image(encoded(plain, "PNG", transparency=color), rule)
    assert np.array_equal(
        read, np.where((indices == indices[0, 0])[:, :, None], 9, np.asarray(plain))
    )


def test_gray_is_the_luma_of_a_color() -> None:
    """Color becomes gray by ITU-R 601, and gray becomes color with equal channels."""
    read = read_image(encoded(SEEN), GRAY)

    assert read.shape == (12, 16, 1)
    assert np.abs(read.astype(int) - luma(SEEN)).max() <= 1
    again = read_image(encoded(read[:, :, 0]), COLOR)
    assert np.array_equal(again, np.repeat(read, 3, axis=2))


def test_one_bit_is_black_and_white() -> None:
    """An image with one bit per pixel has two levels."""
    bits = SEEN[:, :, 0] > SEEN[:, :, 0].mean()

    for kind in ("PNG", "TIFF", "BMP", "PPM"):
        read = read_image(encoded(Image.fromarray(bits), kind), GRAY)
        assert np.array_equal(read[:, :, 0], bits * 255)


@pytest.mark.parametrize(("kind", "dtype"), [("PNG", "u2"), ("TIFF", "u2"), ("PPM", "u2")])
def test_sixteen_bits_of_gray_are_their_upper_eight(kind: str, dtype: str) -> None:
    """The full range is scaled, so a level times 257 becomes that level."""
    gray = SEEN[:, :, 0]
    wide = Image.fromarray(gray.astype(dtype) * 257)

    assert np.array_equal(read_image(encoded(wide, kind), GRAY)[:, :, 0], gray)


@pytest.mark.parametrize(
    ("scale", "offset", "dtype"),
    [
        (1 / 255, 0, "f4"),
        (1, 0, "f4"),
        (1, 0, "i4"),
        (257, 0, "i4"),
        (1e6, -5e7, "i4"),
        (0.1, -3, "f4"),
    ],
)
def test_grays_of_32_bits_are_scaled_by_their_range(
    scale: float, offset: float, dtype: str
) -> None:
    """Integer and floating-point TIFFs may use any unit."""
    gray = np.tile(np.linspace(0, 255, 16).astype(np.uint8), (12, 1))
    values = Image.fromarray((gray * float(scale) + offset).astype(dtype))

    read = read_image(encoded(values, "TIFF"), GRAY)[:, :, 0]

    assert np.abs(read.astype(int) - gray).max() <= 1


def test_nan_and_infinity_are_black_or_white() -> None:
    """The other pixels of a floating-point TIFF keep their levels."""
    values = np.linspace(0, 1, 12 * 16, dtype=np.float32).reshape(12, 16)
    values[3, 3], values[4, 4], values[5, 5] = np.nan, np.inf, -np.inf

    read = read_image(encoded(Image.fromarray(values), "TIFF"), GRAY)[:, :, 0]

    assert (read[3, 3], read[4, 4], read[5, 5]) == (0, 255, 0)
    assert (read[0, 0], read[-1, -1]) == (0, 255)


def test_cmyk_is_converted() -> None:
    """A CMYK JPEG, which Adobe inverts, and a CMYK TIFF have the same colors."""
    inks = Image.fromarray(SEEN).convert("CMYK")

    for kind in ("TIFF", "JPEG"):
        read = read_image(encoded(inks, kind, **LOSSLESS.get(kind, {})), COLOR)
        assert np.abs(read.astype(int) - SEEN).max() <= 4


def test_the_first_of_several_frames_is_read() -> None:
    """The other frames of an animation are ignored."""
    frames = [Image.fromarray(photograph(12, 16, seed)).quantize(200) for seed in range(3)]
    first = np.asarray(frames[0].convert("RGB"))

    for kind in ("GIF", "PNG", "TIFF"):
        content = encoded(frames[0], kind, save_all=True, append_images=frames[1:])
        assert np.array_equal(read_image(content, COLOR), first)


def test_the_largest_icon_is_read() -> None:
    """The images in an ICO file may be PNG files."""
    icon = Image.fromarray(photograph(64, 64)).convert("RGBA")
    rule = image_input(64, 64)

    for packing in ("png", "bmp"):
        content = encoded(icon, "ICO", sizes=[(16, 16), (64, 64)], bitmap_format=packing)
        assert np.array_equal(read_image(content, rule), np.asarray(icon.convert("RGB")))


def test_an_image_of_another_shape_is_stretched_cropped_or_padded() -> None:
    """A wide image is compressed, loses its sides, or gets bars."""
    wide = np.zeros((40, 120, 3), np.uint8)
    wide[:, :40, 0], wide[:, 40:80, 1], wide[:, 80:, 2] = 255, 255, 255
    content = encoded(wide)

    stretched = read_image(content, image_input(8, 12))
    cropped = read_image(content, image_input(8, 8, fit="crop"))
    padded = read_image(content, image_input(12, 12, fit="pad", background=77))

    assert [tuple(stretched[4, column]) for column in (1, 6, 10)] == [
        (255, 0, 0),
        (0, 255, 0),
        (0, 0, 255),
    ]
    assert (cropped[:, 1:-1] == (0, 255, 0)).all()
    assert (padded[:4] == 77).all()
    assert (padded[8:] == 77).all()
    assert tuple(padded[6, 1]) == (255, 0, 0)


@pytest.mark.parametrize("shape", [(997, 1203), (4001, 37), (3, 5000)])
@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_reducing_before_the_filter_makes_no_visible_difference(
    shape: tuple[int, int], kind: str
) -> None:
    """Blocks and reduced decoding change the result by a few levels."""
    rng = np.random.default_rng(1)
    height, width = shape
    rough = photograph(*shape).astype(int) + rng.integers(-40, 40, (height, width, 1))
    content = encoded(np.clip(rough, 0, 255).astype(np.uint8), kind)

    read = read_image(content, image_input(20, 24))

    with Image.open(io.BytesIO(content)) as image:
        exact = image.resize((24, 20), Image.Resampling.BILINEAR)
    assert np.abs(read.astype(int) - np.asarray(exact)).max() <= 6


def test_a_line_of_millions_of_pixels_takes_little_memory() -> None:
    """Without the reduction in blocks, the tables of the filter would take gigabytes."""
    line = np.full((1, 20_000_000), 200, np.uint8)

    assert (read_image(encoded(line), GRAY) == 200).all()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "The file is empty; send an image as PNG"),
        (b"%PDF-1.7\n", "This is a PDF document; export the page as PNG or JPEG"),
        (b"<!DOCTYPE html><html></html>", "This is a web page"),
        (b'<?xml version="1.0"?>\n<svg xmlns="x"/>', "This is an SVG drawing; export it as PNG"),
        (b"PK\x03\x04" + bytes(26) + b"xl/workbook.xml", "This is an Office document"),
        (
            b"PK\x03\x04" + bytes(26) + b"a.png",
            "This is a zip archive or a spreadsheet (.xlsx, .ods); unpack it",
        ),
        (b"\0\0\0\x18ftypheic\0\0\0\0", "This is a HEIC photograph; save it as JPEG"),
        (b'{"image": "x"}', "This is JSON; send it as application/json"),
        (b"size,rooms\n1,2\n", "This is text; send an image as PNG"),
        (bytes(range(256)), "This is not a supported image; send an image as PNG"),
    ],
)
def test_other_files_are_rejected_with_their_type(content: bytes, message: str) -> None:
    """The message has the type of the file and the supported types."""
    with pytest.raises(InvalidImage) as error:
        read_image(content, COLOR)

    assert str(error.value).startswith(message)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP", "TIFF", "PPM", "WEBP", "AVIF"])
@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
def test_a_truncated_file_is_rejected(kind: str, share: float) -> None:
    """The message states that the file is damaged or truncated."""
    rng = np.random.default_rng(2)
    whole = encoded(rng.integers(0, 256, (60, 80, 3), np.uint8), kind)

    with pytest.raises(InvalidImage, match="damaged or cut short"):
        read_image(whole[: int(len(whole) * share)], COLOR)


@pytest.mark.parametrize("bomb", bombs())
def test_a_bomb_is_rejected_by_its_header(bomb: bytes) -> None:
    """The size in the header is checked before memory of that size is allocated."""
    with pytest.raises(InvalidImage, match=r"pixels, and at most [\d,]+ in all are supported for"):
        read_image(bomb, COLOR)


def test_the_pixel_limit_is_a_parameter() -> None:
    """An image above the limit is rejected, and one at the limit is read."""
    content = encoded(SEEN)

    assert read_image(content, COLOR, max_pixels=12 * 16).shape == (12, 16, 3)
    with pytest.raises(InvalidImage, match="has 16 x 12 pixels, and at most 191 in all"):
        read_image(content, COLOR, max_pixels=191)


def test_a_jpeg_of_hundreds_of_scans_is_rejected() -> None:
    """A progressive JPEG that would keep the decoder busy is not decoded."""
    content = encoded(SEEN, "JPEG", progressive=True)
    scan = content[content.index(b"\xff\xda") : -2]

    with pytest.raises(InvalidImage, match=r"made of \d+ scans"):
        read_image(content[:-2] + scan * 200 + b"\xff\xd9", COLOR)


def test_damaged_metadata_of_an_intact_image_is_ignored() -> None:
    """Damaged EXIF data causes neither an error nor a warning."""
    program = (
        "import sys, numpy; from tests.images import encoded, image_input, photograph; "
        "from service.imaging.preprocess import read_image; "
        "broken = b'Exif\\0\\0II*\\0\\x08\\0\\0\\0\\x05\\0' + b'\\x12\\x01\\x03\\0\\xff' * 9; "
        "seen = photograph(12, 16); rule = image_input(12, 16); "
        "[read_image(encoded(seen, kind, exif=broken), rule) for kind in ('JPEG', 'PNG', 'WEBP')]"
    )

    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )

    assert (done.returncode, done.stderr) == (0, "")


def test_many_threads_read_the_same_pixels() -> None:
    """Images may be read in several threads at the same time."""
    contents = [encoded(photograph(300, 400, seed), "JPEG") for seed in range(8)]
    alone = [read_image(content, COLOR) for content in contents]

    with ThreadPoolExecutor(4) as threads:
        together = list(threads.map(lambda content: read_image(content, COLOR), contents * 4))

    assert all(np.array_equal(a, b) for a, b in zip(alone * 4, together, strict=True))


def test_the_decoder_is_named_with_its_version() -> None:
    """The name that manifests record contains the version of Pillow."""
    assert DECODER.startswith("Pillow ")
