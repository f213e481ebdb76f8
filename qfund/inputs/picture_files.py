"""Picture files that somebody gives → small RGB pictures. What cannot be read safely is refused with the reason.

The content decides what a file is, not its name. Size and pixels are checked before anything is decoded.
"""

import re
import threading
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path, PurePath

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from qfund.core.errors import InvalidInput
from qfund.core.units import bytes_text

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")
#: Endings of such files, for a dialogue that chooses some.
ENDINGS = ("png", "jpg", "jpeg", "webp", "gif", "bmp")
MAX_BYTES = 10 * 1024**2  # the same in .streamlit/config.toml
MAX_PIXELS = 32_000_000
#: Passes over a JPEG: ten are usual where there are several, and a file of 10 MiB has room for 200,000.
MAX_SCANS = 100
#: Longest side of what is kept, in pixels: more than captioners read (224 or 384).
LONGEST = 512
_MAX_NAME = 100  # characters

_REMEDY = "Give a PNG, JPEG, WebP, GIF or BMP picture."
_PNG, _JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8"
_SCAN = b"\xff\xda"  # among the data of a picture, 0xFF is followed by a zero
_SMALLER = "Save it smaller, and give it again."
#: What people give besides, by how such a file begins.
_OTHERS = (
    (rb".{4}ftyp(heic|heix|hevc|mif1|msf1)", "a HEIC photo"),
    (rb".{4}ftypavi[fs]", "an AVIF picture"),
    (rb".{4}ftyp", "a video"),
    (rb"(II\*\0|MM\0\*)", "a TIFF picture"),
    (rb"%PDF", "a PDF document"),
    (rb"\s*(<\?xml.{0,400})?<svg", "an SVG drawing"),
)
# A decoded picture takes up to four bytes a pixel, so never several at once.
_one_at_a_time = threading.Lock()


@dataclass(frozen=True, slots=True)
class PictureFile:
    """A picture ready to be asked about.

    Attributes:
        name: of the file, without its folder.
        png: 8-bit RGB without metadata, at most ``LONGEST`` pixels wide and high.
        notes: sentences that say what was done to it.
    """

    name: str
    png: bytes
    notes: tuple[str, ...] = ()


def read(path: Path) -> PictureFile:
    """The picture in a file.

    Raises:
        InvalidInput: as ``decode``, or there is no such file.
    """
    name = clean_name(str(path))
    try:
        if not path.is_file():
            raise InvalidInput(f"{name} cannot be read: there is no such file.", "Check the path.")
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
            size = max(len(data), path.stat().st_size)
    except (OSError, ValueError) as error:  # ValueError: a null byte in the path
        raise InvalidInput(f"{name} cannot be read: {str(error).lower()}.", "Check the path.") from error
    _small_enough(name, size)
    return decode(data, name)


def decode(data: bytes, name: str) -> PictureFile:
    """The picture that ``data`` is the file of: its first frame, upright, on white, in 8-bit RGB, scaled down.

    Raises:
        InvalidInput: no picture, one of another format, damaged, or larger than ``MAX_BYTES`` or ``MAX_PIXELS``.
    """
    name = clean_name(name)
    must_be_modest(data, name)
    with _one_at_a_time, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of many pixels; here they are an error
        try:
            with Image.open(BytesIO(data), formats=FORMATS) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise _too_many(name, f"{image.width:,} × {image.height:,} pixels")
                notes: list[str] = []
                small = _plain(image, data, notes.append)
        except UnidentifiedImageError as error:
            what = next((said for start, said in _OTHERS if re.match(start, data[:512], re.DOTALL)), "")
            said = f"is {what}, which qfund does not read" if what else "is not a picture that can be read"
            raise InvalidInput(f"{name} {said}.", _REMEDY) from error
        except Image.DecompressionBombError as error:
            raise _too_many(name, f"more than {2 * (Image.MAX_IMAGE_PIXELS or 0):,} pixels") from error
        except InvalidInput:
            raise
        except Exception as error:  # decoders raise whatever their libraries raise: OSError, ValueError, struct.error
            if isinstance(error, MemoryError):
                raise
            what = " ".join(str(error).split())[:200]
            raise InvalidInput(f"{name} is damaged or cut off: {what}.", "Save the picture again.") from error
    return PictureFile(name, to_png(small), tuple(f"{name}: {note}" for note in notes))


def must_be_modest(data: bytes, name: str) -> None:
    """What is refused before anything is decoded, whatever is in it.

    Raises:
        InvalidInput: it is empty, larger than ``MAX_BYTES``, a JPEG of more than ``MAX_SCANS``, or a PNG of more than
            ``MAX_PIXELS``.
    """
    _small_enough(name, len(data))
    if not data:
        raise InvalidInput(f"{name} is empty.", _REMEDY)
    if data[:2] == _JPEG and (scans := data.count(_SCAN)) > MAX_SCANS:
        raise InvalidInput(f"{name} is written in {scans:,} passes; at most {MAX_SCANS} are decoded.", _SMALLER)
    if data[:8] == _PNG and data[12:16] == b"IHDR":
        width, height = int.from_bytes(data[16:20]), int.from_bytes(data[20:24])
        if width * height > MAX_PIXELS:
            raise _too_many(name, f"{width:,} × {height:,} pixels")


def is_ready(png: bytes) -> bool:
    """Whether it is, by its header, what ``decode`` gives: a PNG of 8-bit RGB, no side longer than ``LONGEST``."""
    width, height = int.from_bytes(png[16:20]), int.from_bytes(png[20:24])
    header = png[:8] == _PNG and png[12:16] == b"IHDR" and png[24:26] == b"\x08\x02"
    return header and 0 < width <= LONGEST and 0 < height <= LONGEST


def to_png(image: Image.Image) -> bytes:
    """An RGB picture as the bytes of a PNG without metadata."""
    plain = Image.new("RGB", image.size)  # what belongs to a file (profile, comments) stays behind
    plain.paste(image)
    target = BytesIO()
    plain.save(target, "PNG")
    return target.getvalue()


def clean_name(name: str) -> str:
    """A file's name without its folder, as text that can be shown and stored."""
    bare = PurePath(name.replace("\\", "/")).name.encode(errors="replace").decode()
    printable = "".join(letter if letter.isprintable() else "?" for letter in bare)
    return printable[:_MAX_NAME] or "picture"


def _small_enough(name: str, size: int) -> None:
    if size > MAX_BYTES:
        raise InvalidInput(f"{name} has {bytes_text(size)}; at most {bytes_text(MAX_BYTES)} are read.", _SMALLER)


def _too_many(name: str, pixels: str) -> InvalidInput:
    return InvalidInput(f"{name} has {pixels}; at most {MAX_PIXELS:,} are decoded.", _SMALLER)


def _plain(image: Image.Image, data: bytes, note: Callable[[str], None]) -> Image.Image:
    """What is said above of ``decode``. ``note`` takes a sentence for each thing that changes what is seen."""
    if image.format in ("GIF", "PNG", "WEBP") and getattr(image, "is_animated", False):
        note("only the first frame of the animation is used.")
    size = image.size
    if image.format == "JPEG":
        image.draft("RGB", (2 * LONGEST, 2 * LONGEST))  # decoded at 1/2, 1/4 or 1/8 where that is enough
    image.load()
    deep = image.format == "PNG" and data[24] == 16
    if deep:
        note("16 bits a channel were rounded to 8.")
    if image.mode == "CMYK":
        note("CMYK colours were converted without their profile.")
    image = _upright(image, note)
    if image.mode.startswith("I"):
        gray = np.asarray(image).astype(np.float64) / 257  # 0 … 65535
        image = Image.fromarray(gray.round().clip(0, 255).astype(np.uint8))
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        image = image.convert("RGBA")
        if np.asarray(image)[..., 3].min() < 255:
            note("what is transparent was laid on white.")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    image = image.convert("RGB")
    if max(size) > LONGEST:
        image.thumbnail((LONGEST, LONGEST), Image.Resampling.LANCZOS, reducing_gap=3.0)
        note(f"scaled from {size[0]:,} × {size[1]:,} to {image.width} × {image.height} pixels.")
    return image


def _upright(image: Image.Image, note: Callable[[str], None]) -> Image.Image:
    try:
        turned = ImageOps.exif_transpose(image)
    except Exception:  # whatever parsing a malformed block of metadata raises
        note("how it was held cannot be read from its metadata, so it is used as stored.")
        return image
    if turned is not image and image.getexif().get(0x0112, 1) != 1:
        note("turned as its metadata says.")
    return turned
