"""Pictures that people give: read as they look, or refused with the reason."""

import struct
import tomllib
import zlib
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from qfund.core.errors import InvalidInput, QfundError
from qfund.inputs import picture_files
from qfund.inputs.picture_files import LONGEST, MAX_BYTES, decode, is_ready, read

ROOT = Path(__file__).resolve().parents[2]
RED, GREEN = (220, 30, 40), (20, 180, 60)


def halves(mode: str = "RGB") -> Image.Image:
    """40 × 20 pixels, red on the left and green on the right."""
    image = Image.new("RGB", (40, 20), RED)
    image.paste(GREEN, (20, 0, 40, 20))
    return image.quantize(2) if mode == "P" else image.convert(mode)


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    target = BytesIO()
    image.save(target, kind, **options)
    return target.getvalue()


def shown(data: bytes, name: str = "a.png") -> Image.Image:
    """What is kept of a file, which must be ready to be asked about."""
    png = decode(data, name).png
    assert is_ready(png)
    image = Image.open(BytesIO(png))
    assert (image.format, image.mode) == ("PNG", "RGB")
    assert not image.info, "metadata stays behind"
    return image


def near(pixel: Any, color: tuple[int, int, int], by: int = 12) -> bool:
    return all(abs(a - b) <= by for a, b in zip(pixel, color, strict=True))


@pytest.mark.parametrize(
    ("kind", "mode", "options"),
    [
        ("PNG", "RGB", {}),
        ("PNG", "P", {}),
        ("PNG", "RGBA", {}),
        ("JPEG", "RGB", {"quality": 95, "subsampling": 0}),
        ("JPEG", "CMYK", {"quality": 95}),
        ("WEBP", "RGB", {"lossless": True}),
        ("GIF", "RGB", {}),
        ("BMP", "RGB", {}),
    ],
)
def test_every_format_shows_what_it_holds(kind: str, mode: str, options: dict[str, Any]) -> None:
    image = shown(saved(halves(mode), kind, **options), "picture.txt")
    assert image.size == (40, 20)
    assert near(image.getpixel((5, 10)), RED) and near(image.getpixel((34, 10)), GREEN)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_photos_are_turned_as_their_metadata_says(orientation: int) -> None:
    """A photo is stored as the sensor was held; undoing that gives the picture as it looked."""
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = halves() if orientation == 1 else halves().transpose(undo[orientation])
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = decode(saved(stored, "JPEG", quality=95, subsampling=0, exif=exif), "photo.jpg")
    image = Image.open(BytesIO(file.png))
    assert image.size == (40, 20)
    assert near(image.getpixel((5, 10)), RED) and near(image.getpixel((34, 10)), GREEN)
    assert any("turned" in note for note in file.notes) == (orientation != 1)


def test_metadata_that_is_no_metadata_loses_nothing() -> None:
    data = saved(halves(), "JPEG", quality=95, subsampling=0, exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + b"\xff" * 30)
    assert near(shown(data).getpixel((5, 10)), RED)


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP"])
def test_of_an_animation_the_first_frame_is_used_and_that_is_said(kind: str) -> None:
    options: dict[str, Any] = {"lossless": True} if kind == "WEBP" else {}
    frames = [Image.new("RGB", (40, 20), color) for color in (GREEN, RED)]
    file = decode(saved(halves(), kind, save_all=True, append_images=frames, **options), "a.gif")
    assert near(Image.open(BytesIO(file.png)).getpixel((5, 10)), RED)
    assert any("first frame" in note for note in file.notes)
    assert not decode(saved(halves(), kind, **options), "a.gif").notes


def png_16_bit(pixels: np.ndarray, color_type: int) -> bytes:
    """A PNG of 16-bit values [height, width, channels], written by hand."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    height, width = pixels.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", width, height, 16, color_type, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@pytest.mark.parametrize(("color_type", "channels"), [(0, 1), (2, 3), (6, 4)])
def test_16_bits_are_rounded_to_8_and_not_clipped(color_type: int, channels: int) -> None:
    pixels = np.full((4, 4, channels), 200 * 257, dtype=np.uint16)
    pixels[0, 0, : min(channels, 3)] = 100 * 257
    if channels == 4:
        pixels[..., 3] = 65535
    file = decode(png_16_bit(pixels, color_type), "deep.png")
    image = Image.open(BytesIO(file.png))
    assert near(image.getpixel((0, 0)), (100, 100, 100), 1) and near(image.getpixel((3, 3)), (200, 200, 200), 1)
    assert any("16 bits" in note for note in file.notes)


def test_what_is_transparent_lies_on_white() -> None:
    image = halves("RGBA")
    image.paste((0, 0, 0, 0), (0, 0, 20, 20))
    file = decode(saved(image, "PNG"), "a.png")
    shown_ = Image.open(BytesIO(file.png))
    assert shown_.getpixel((5, 10)) == (255, 255, 255) and shown_.getpixel((34, 10)) == GREEN
    assert any("white" in note for note in file.notes)
    palette = halves("P")
    data = saved(palette, "PNG", transparency=palette.getpixel((5, 10)))
    assert shown(data).getpixel((5, 10)) == (255, 255, 255)


@pytest.mark.parametrize(("size", "kept"), [((3000, 1000), (512, 171)), ((20, 4000), (3, 512)), ((512, 512), None)])
def test_large_pictures_are_scaled_down_and_keep_their_shape(
    size: tuple[int, int], kept: tuple[int, int] | None
) -> None:
    for kind in ("JPEG", "PNG"):
        file = decode(saved(Image.new("RGB", size, RED), kind), "large")
        image = Image.open(BytesIO(file.png))
        assert image.size == (kept or size) and max(image.size) <= LONGEST
        assert near(image.getpixel((0, 0)), RED)
        assert any("scaled from" in note for note in file.notes) == (kept is not None)


def bomb() -> bytes:
    """A PNG of a few bytes that says it has 900 million pixels."""
    data = bytearray(saved(Image.new("1", (8, 8)), "PNG"))
    data[16:24] = struct.pack(">II", 30_000, 30_000)
    data[29:33] = struct.pack(">I", zlib.crc32(bytes(data[12:29])))
    return bytes(data)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is empty"),
        (b"a red circle", "is not a picture"),
        (b"%PDF-1.7 and so on", "a PDF document"),
        (b"<?xml version='1.0'?>\n<svg xmlns='http://www.w3.org/2000/svg'/>", "an SVG drawing"),
        (b"\0\0\0\x18ftypheic" + bytes(40), "a HEIC photo"),
        (b"II*\0" + bytes(40), "a TIFF picture"),
        (saved(Image.new("L", (6000, 6000)), "PNG"), "6,000 × 6,000 pixels; at most 32,000,000"),
        (bomb(), "at most 32,000,000"),
        (saved(halves(), "PNG")[:-40], "damaged or cut off"),
        (saved(Image.effect_noise((64, 64), 90), "JPEG")[:700], "damaged or cut off"),
        (bytes(MAX_BYTES + 1), "at most 10 MiB are read"),
    ],
    ids=["empty", "text", "pdf", "svg", "heic", "tiff", "pixels", "bomb", "cut png", "cut jpeg", "bytes"],
)
def test_what_cannot_be_used_is_refused_with_the_reason(data: bytes, message: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        decode(data, "folder/thing.png")
    assert message in caught.value.message and caught.value.message.startswith("thing.png")
    assert caught.value.remedy


def test_a_file_of_100_megabytes_is_not_read(tmp_path: Path) -> None:
    large = tmp_path / "large.png"
    with large.open("wb") as file:
        file.truncate(100 * 1000**2)
    with pytest.raises(InvalidInput, match=r"large.png has 95.4 MiB; at most 10 MiB"):
        read(large)


def test_files_that_are_not_there(tmp_path: Path) -> None:
    for path in (tmp_path / "none.png", tmp_path, Path("a\0b")):
        with pytest.raises(InvalidInput, match="cannot be read"):
            read(path)
    good = tmp_path / "good.png"
    good.write_bytes(saved(halves(), "PNG"))
    assert read(good).name == "good.png"


def test_names_are_shown_without_folders_and_signs_that_cannot_be() -> None:
    assert picture_files.clean_name("/home/me/a\nb\x1b[31m.png") == "a?b?[31m.png"
    assert picture_files.clean_name("C:\\photos\\dog.jpg") == "dog.jpg"
    assert picture_files.clean_name("\udcff.png").encode()
    assert len(picture_files.clean_name("x" * 999)) == 100
    assert picture_files.clean_name("") == "picture"


def test_ready_pictures_are_told_by_their_header() -> None:
    ready = decode(saved(halves(), "PNG"), "a.png").png
    assert is_ready(ready) and decode(ready, "a.png").png == ready
    assert not is_ready(saved(halves("RGBA"), "PNG"))
    assert not is_ready(saved(Image.new("RGB", (LONGEST + 1, 3)), "PNG"))
    assert not is_ready(saved(halves(), "JPEG")) and not is_ready(b"")


_SEEDS = [saved(halves(), kind) for kind in ("PNG", "JPEG", "GIF", "WEBP", "BMP")]


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(_SEEDS), st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=6))
def test_damaged_files_never_break_anything(data: bytes, changes: list[tuple[int, int]]) -> None:
    broken = bytearray(data)
    for place, value in changes:
        broken[place % len(broken)] = value
    try:
        assert is_ready(decode(bytes(broken), "a.png").png)
    except QfundError as error:
        assert error.message and error.remedy


def test_the_server_takes_files_as_large_as_are_read() -> None:
    config = tomllib.loads((ROOT / ".streamlit/config.toml").read_text())
    assert config["server"]["maxUploadSize"] * 1024**2 == MAX_BYTES
