"""Hostile image files are read or rejected in limited memory and time."""

import struct
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from time import process_time

import numpy as np
import pytest
from PIL import Image

from service.bundle.manifest import ImageInput
from service.imaging.limits import InvalidImage
from service.imaging.preprocess import SmallPngReader, read_image
from tests.hostile_images import bombs, hostile_images, sparse_image, tiff
from tests.images import Pixels, encoded, image_input, png_chunk, png_of_size
from tests.odd_images import odd_images

COLOR = image_input(12, 16)
GRAY = image_input(28, 28, channels=1)
DIGIT = image_input(28, 28, channels=1, normalize="digit")
KINDS = ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "AVIF", "JPEG2000", "ICO")

# Peak memory of each bomb, in a separate process that no other test has used.
_PEAKS = """
from pathlib import Path
from service.imaging.preprocess import InvalidImage, read_image
from tests.hostile_images import bombs
from tests.images import image_input

def kilobytes(name):
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(name)).split()[1])

for name, content in bombs().items():
    Path("/proc/self/clear_refs").write_text("5")
    before = kilobytes("VmRSS")
    try:
        read_image(content, image_input(12, 16))
    except InvalidImage:
        pass
    print((kilobytes("VmHWM") - before) // 1024, name)
"""


def outcome(content: bytes, rule: ImageInput) -> str:
    """Return the message if an image is rejected, or an empty string; raise any other error."""
    try:
        read = read_image(content, rule)
    except InvalidImage as error:
        return str(error)
    assert read.shape == (rule.height, rule.width, rule.channels)
    return ""


def icon_of(shape: tuple[int, int]) -> bytes:
    """Create an ICO file of this size, which its directory may state wrongly."""
    whole = encoded(Image.new("RGBA", (16, 16)), "ICO", bitmap_format="bmp")
    return whole[:26] + struct.pack("<ii", shape[1], 2 * shape[0]) + whole[34:]


def seconds(content: bytes) -> float:
    """Measure the processor time to read or reject an image."""
    started = process_time()
    outcome(content, COLOR)
    return process_time() - started


@cache
def photograph_seconds() -> float:
    """Measure the processor time to read a photograph of three megapixels."""
    return seconds(encoded(Image.effect_noise((2000, 1500), 40), "PNG", compress_level=1))


def test_a_palette_image_without_a_palette_is_rejected() -> None:
    """This holds for models with color, gray and digit inputs."""
    header = (28).to_bytes(4, "big") * 2 + b"\x08\x03\0\0\0"
    whole = png_of_size(28, 28, bytes(29 * 28))
    content = whole[:8] + png_chunk(b"IHDR", header) + whole[33:]

    for rule in (COLOR, GRAY, DIGIT):
        assert "indexed colors and no palette" in outcome(content, rule)


def test_invalid_palettes_and_transparency_are_read_or_rejected() -> None:
    """Palettes of any length, and transparency of any length and value, cause no other error."""
    pixels = Image.fromarray(np.arange(16, dtype=np.uint8).reshape(4, 4))
    for image in (pixels, pixels.convert("P"), pixels.convert("RGB"), pixels.convert("1")):
        whole = encoded(image)
        offset = whole.index(b"IDAT") - 4
        for kind in (b"PLTE", b"tRNS"):
            for length in (0, 1, 2, 3, 6, 256, 769, 2000):
                content = whole[:offset] + png_chunk(kind, b"\xff" * length) + whole[offset:]
                for rule in (COLOR, GRAY, DIGIT):
                    outcome(content, rule)


@pytest.mark.parametrize("kind", KINDS)
def test_a_truncated_or_changed_file_is_read_or_rejected(kind: str) -> None:
    """Every few bytes, a file ends or has a changed bit, byte or length."""
    pixels = np.random.default_rng(0).integers(0, 256, (20, 16, 3), np.uint8)
    image = Image.fromarray(pixels)
    whole = encoded(image, kind, **({"bitmap_format": "bmp"} if kind == "ICO" else {}))

    for offset in range(0, len(whole), max(len(whole) // 60, 1)):
        for changed in (
            b"",
            bytes([whole[offset] ^ 0x80]),
            b"\0",
            b"\xff" * 4,
            b"\x7f\xff\xff\xff",
        ):
            content = whole[:offset] + changed + whole[offset + len(changed) :]
            outcome(content if changed else whole[:offset], DIGIT)


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (40, 1), (1, 5000), (5000, 1), (2, 3)])
@pytest.mark.parametrize("kind", KINDS)
def test_images_of_one_line_are_read_or_rejected(kind: str, shape: tuple[int, int]) -> None:
    """Very thin images work with every kind of preprocessing."""
    pixels = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    content = encoded(pixels, kind) if kind != "ICO" else icon_of(shape)

    for rule in (COLOR, GRAY, DIGIT, image_input(9, 7, fit="crop"), image_input(9, 7, fit="pad")):
        outcome(content, rule)


@pytest.mark.parametrize("share", [0.0001, 0.003, 0.1, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("shape", [(57, 48), (28, 28), (300, 400), (60, 3), (900, 1200)])
def test_dots_and_noise_are_read_or_rejected_by_a_digit_model(
    shape: tuple[int, int], share: float
) -> None:
    """Images with few or many black pixels are read, or have no foreground."""
    for seed in range(3):
        sheet = sparse_image(*shape, seed, share)
        for image in (sheet, 255 - sheet):
            assert outcome(encoded(image), DIGIT) in {"", _NO_FOREGROUND}


@pytest.mark.parametrize(
    "image",
    [
        np.indices((64, 64)).sum(axis=0) % 2 * 255,
        np.indices((400, 400))[0] % 4 // 2 * 255,
        np.pad(np.zeros((1, 1)), 30, constant_values=255),
        np.pad(np.zeros((1, 61)), ((30, 30), (0, 0)), constant_values=255),
        np.zeros((90, 90)),
        np.full((90, 90), 255),
        np.arange(90 * 90).reshape(90, 90) % 251,
    ],
)
def test_patterns_are_read_or_rejected_by_a_digit_model(image: Pixels) -> None:
    """Checkerboards, stripes, single pixels, lines and blank images cause no other error."""
    with np.errstate(divide="raise", invalid="raise"):
        assert outcome(encoded(image.astype(np.uint8)), DIGIT) in {"", _NO_FOREGROUND}


_NO_FOREGROUND = (
    "No foreground is found in this image; send one of a single digit that stands out from its "
    "background."
)


@pytest.mark.parametrize("name", list(hostile_images(0)))
def test_time_grows_at_most_linearly_with_the_size_of_a_file(name: str) -> None:
    """A hostile file a hundred times as long takes about as many times as long, or is rejected."""
    contents = [hostile_images(size)[name] for size in (3_000, 300_000)]
    first, last = (min(seconds(content) for _ in range(3)) for content in contents)

    # A hundred times the bytes: a thousand is far below the ten thousand of quadratic work.
    assert last < 1000 * max(first, 0.002)


@pytest.mark.parametrize("name", list(bombs()))
def test_a_bomb_takes_little_time(name: str) -> None:
    """A small file takes no longer than a few photographs."""
    assert seconds(bombs()[name]) < 10 * photograph_seconds() + 0.2


def test_a_bomb_takes_no_more_memory_than_the_largest_image() -> None:
    """Decoding takes less memory than the limit for any size in the header."""
    done = subprocess.run(
        [sys.executable, "-c", _PEAKS], capture_output=True, text=True, check=True
    )

    peaks = [line.split(" ", 1) for line in done.stdout.splitlines()]
    assert len(peaks) == len(bombs())
    assert [name for peak, name in peaks if int(peak) > 150] == []


def test_the_limit_is_lower_for_formats_whose_decoders_take_more_memory() -> None:
    """They may have only a part of the pixels."""
    content = {
        kind: encoded(Image.new("RGB", (500, 400)), kind) for kind in ("PNG", "WEBP", "AVIF")
    }

    limits = {"PNG": 200_000, "WEBP": 640_000, "AVIF": 480_000}

    for kind, limit in limits.items():
        assert outcome(content[kind], COLOR) == ""
        read_image(content[kind], COLOR, max_pixels=limit)
        with pytest.raises(InvalidImage, match="500 x 400 pixels, and at most"):
            read_image(content[kind], COLOR, max_pixels=limit - 4)


def test_a_baseline_jpeg_may_have_more_pixels() -> None:
    """It is decoded at a reduced size, so photographs of phones are read."""
    content = encoded(Image.effect_noise((2000, 1500), 30), "JPEG")

    read_image(content, COLOR, max_pixels=400_000)
    with pytest.raises(InvalidImage, match="2,000 x 1,500 pixels, and at most 2,400,000 in all"):
        read_image(content, COLOR, max_pixels=300_000)


def test_decoders_print_and_log_nothing() -> None:
    """Broken TIFFs and every other hostile file leave standard error and the log empty."""
    program = (
        "import logging\n"
        "from service.imaging.preprocess import InvalidImage, read_image\n"
        "from tests.hostile_images import bombs, hostile_images, tiff\n"
        "from tests.odd_images import broken_images, corrupted_images\n"
        "from tests.images import image_input\n"
        "strips = [(273, 4, [8] * 200), (278, 4, [1]), (279, 4, [9] * 200)]\n"
        "files = [tiff((16, 200), strips, packing) for packing in (2, 3, 4, 5, 7, 8, 32773)]\n"
        "files += [tiff((16, 16), [(277, 4, [60_000])]), tiff((16, 16), [(999, 77, [1])], 5)]\n"
        "files += [*bombs().values(), *hostile_images(5_000).values(), *corrupted_images()]\n"
        "files += [content for _, content in broken_images()]\n"
        "logging.basicConfig(level='DEBUG')  # writing the files logs too\n"
        "for content in files:\n"
        "    try: read_image(content, image_input(12, 16))\n"
        "    except InvalidImage: pass\n"
    )

    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )

    assert (done.returncode, done.stderr) == (0, "")


def test_invalid_tiffs_are_rejected_in_many_threads_at_once() -> None:
    """The decoder's warnings are disabled for all threads."""
    strips = [(273, 4, [8] * 50), (278, 4, [1]), (279, 4, [9] * 50)]
    contents = [tiff((16, 50), strips, packing) for packing in (5, 8, 32773)] * 20

    with ThreadPoolExecutor(4) as threads:
        messages = list(threads.map(lambda content: outcome(content, COLOR), contents))

    assert all("damaged or cut short" in sentence for sentence in messages)


def test_an_avif_whose_frame_header_is_cut_short_is_rejected() -> None:
    """The message says what is wrong with the file."""
    content = bytearray(encoded(Image.new("RGB", (16, 16)), "AVIF", speed=10))
    header = content.index(b"\x0a", content.index(b"mdat"))
    content[header + 1] = 1

    with pytest.raises(InvalidImage, match="a table is cut short"):
        read_image(bytes(content), COLOR)


def test_small_gray_png_files_are_read_with_the_same_result_by_both_readers() -> None:
    """Files of the model's own size are read by both, others only by the general reader."""
    pixels = np.random.default_rng(0).integers(0, 256, (28, 28)).astype(np.uint8)
    image = Image.fromarray(pixels)
    reader = SmallPngReader(GRAY)
    plain = [encoded(image), encoded(image, optimize=True)]
    other = [
        encoded(image) + b"x",
        png_of_size(28, 28),
        png_of_size(28, 28, b"\5" * 29 * 28),
        encoded(image, transparency=3),
        encoded(image, exif=b"II*\0\x08\0\0\0\1\0\x12\1\3\0\1\0\0\0\3\0\0\0\0\0\0\0"),
        encoded(image.convert("RGB")),
        encoded(image.resize((27, 28))),
        encoded(image)[:-30],
    ]

    for content in plain:
        np.testing.assert_array_equal(reader.read(content), pixels)
    assert [reader.read(content) for content in other] == [None] * len(other)


def test_odd_images_are_read_by_digit_models() -> None:
    """Every supported format, mode and orientation is read, or has no foreground."""
    for one in odd_images()[::7]:
        assert outcome(one.content, DIGIT) in {"", _NO_FOREGROUND}
