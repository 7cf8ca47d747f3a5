"""Small grey PNG files read without opening them: the same pixels, or the careful way."""

import struct
import zlib
from io import BytesIO

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, PngImagePlugin

from service.bundle.inputs import ImageInput
from service.pictures import DECODER, Picture, PictureRefused, PlainReader, read_picture
from service.plain_png import PlainPng

SIDE = 28
START = b"\x89PNG\r\n\x1a\n"


def rule(normalise: str = "none") -> ImageInput:
    return ImageInput.model_validate(
        {
            "kind": "image",
            "height": SIDE,
            "width": SIDE,
            "channels": 1,
            "fit": "stretch",
            "background": 0,
            "decoder": DECODER,
            "normalise": normalise,
        }
    )


def noise(seed: int = 0, side: int = SIDE) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (side, side)).astype(np.uint8)


def saved(image: Image.Image, **options: object) -> bytes:
    file = BytesIO()
    image.save(file, "PNG", **options)
    return file.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    check = struct.pack(">I", zlib.crc32(kind + data))
    return struct.pack(">I", len(data)) + kind + data + check


def by_hand(pixels: npt.NDArray[np.uint8], *between: bytes, pieces: int = 1) -> bytes:
    """A file of unfiltered rows, with chunks of one's own and its data in so many pieces."""
    height, width = pixels.shape
    header = struct.pack(">2I5B", width, height, 8, 0, 0, 0, 0)
    data = zlib.compress(b"".join(b"\0" + row.tobytes() for row in pixels))
    size = -(-len(data) // pieces)
    parts = [chunk(b"IDAT", data[start : start + size]) for start in range(0, len(data), size)]
    return b"".join([START, chunk(b"IHDR", header), *between, *parts, chunk(b"IEND", b"")])


def extent(pixels: npt.NDArray[np.uint8]) -> tuple[int, int]:
    """Height and width of all that is not nought, by numpy."""
    places = np.argwhere(pixels)
    height, width = np.ptp(places, axis=0) + 1 if len(places) else (0, 0)
    return int(height), int(width)


@pytest.mark.parametrize("seed", range(5))
def test_pixels_are_those_that_pillow_reads(seed: int) -> None:
    """Of noise and of slopes, which its encoder filters in every way."""
    slope = (np.add.outer(np.arange(SIDE) * seed, np.arange(SIDE) * 3) % 256).astype(np.uint8)
    for pixels in (noise(seed), slope, np.full((SIDE, SIDE), seed, np.uint8)):
        pixels[: seed + 1], pixels[:, 20:] = 0, 0
        for content in (
            saved(Image.fromarray(pixels)),
            saved(Image.fromarray(pixels), optimize=True),
            by_hand(pixels),
            by_hand(pixels, pieces=3),
            by_hand(pixels) + b"x",
            by_hand(pixels, chunk(b"sRGB", b"\0"), chunk(b"gAMA", struct.pack(">I", 45455))),
        ):
            found, reached = PlainPng(SIDE, SIDE).read(content) or (None, None)
            np.testing.assert_array_equal(found, pixels)
            assert reached == extent(pixels)
            np.testing.assert_array_equal(
                PlainReader(rule()).read(content), Picture.open(content).read(rule())[:, :, 0]
            )


def text() -> PngImagePlugin.PngInfo:
    found = PngImagePlugin.PngInfo()
    found.add_text("Comment", "hello")
    return found


@pytest.mark.parametrize(
    "content",
    [
        saved(Image.fromarray(noise(side=20))),
        saved(Image.fromarray(noise()).convert("RGB")),
        saved(Image.fromarray(noise()).convert("LA")),
        saved(Image.fromarray(noise()).convert("P")),
        saved(Image.fromarray(noise()).convert("1")),
        saved(Image.fromarray(noise().astype(np.uint16) * 257)),
        saved(Image.fromarray(noise()), transparency=3),
        saved(Image.fromarray(noise()), pnginfo=text()),
    ],
)
def test_other_files_are_left_to_the_careful_way(content: bytes) -> None:
    """Of another size or mode, or with something that may matter."""
    assert PlainPng(SIDE, SIDE).read(content) is None
    np.testing.assert_array_equal(read_picture(content, rule()), Picture.open(content).read(rule()))


def test_damaged_files_are_left_to_the_careful_way() -> None:
    """Wherever a byte is wrong, missing or too much, it says what it thinks of it."""
    good = by_hand(noise())
    damaged = [good[:place] for place in range(0, len(good), 13)]
    damaged += [
        good[:place] + bytes([good[place] ^ 1]) + good[place + 1 :] for place in range(8, 60)
    ]
    damaged += [good + good[8:], good.replace(b"IDAT", b"IDAX"), good[:8]]

    for content in damaged:
        assert PlainPng(SIDE, SIDE).read(content) is None
        try:
            expected = Picture.open(content).read(rule())
        except PictureRefused:
            with pytest.raises(PictureRefused):
                read_picture(content, rule())
        else:
            np.testing.assert_array_equal(read_picture(content, rule()), expected)


def test_digits_that_are_normalised_come_through_and_others_do_not() -> None:
    """Light on dark or the negative, as MNIST's makers placed them; elsewhere ink is looked for."""
    digit = np.zeros((SIDE, SIDE), np.uint8)
    digit[4:24, 12:16] = 255
    moved = np.roll(digit, 3, axis=1)

    for pixels in (digit, 255 - digit):
        content = saved(Image.fromarray(pixels))
        np.testing.assert_array_equal(PlainReader(rule("digit")).read(content), digit)
        np.testing.assert_array_equal(Picture.open(content).read(rule("digit"))[:, :, 0], digit)
    assert PlainReader(rule("digit")).read(saved(Image.fromarray(moved))) is None
