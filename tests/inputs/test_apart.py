"""Pictures made to do harm: refused by what their header tells, or by the bounds of the process that reads them."""

import struct
import sys
import time
import zlib
from io import BytesIO

import pytest
from PIL import Image

from qfund.core.errors import InvalidInput
from qfund.inputs import apart, picture_files


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _png(width: int, height: int) -> bytes:
    """8-bit RGBA, all of it the same: a thousandth of what it takes decoded."""
    row = b"\0" + b"\x40" * (4 * width)
    packer = zlib.compressobj(9)
    data = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", data) + _chunk(b"IEND", b"")


def _jpeg() -> bytes:
    target = BytesIO()
    Image.new("RGB", (64, 64), (200, 30, 40)).save(target, "JPEG", progressive=True)
    return target.getvalue()


def test_a_picture_is_read_as_it_is_here() -> None:
    for data in (_png(600, 40), _jpeg()):
        assert apart.decode(data, "a/b.png") == picture_files.decode(data, "a/b.png")


def test_a_jpeg_of_200_000_scans_is_refused_unread() -> None:
    """It would decode for 14 minutes."""
    data = _jpeg()
    scan = data[data.rindex(b"\xff\xda") : -2]
    long = data[:-2] + scan * ((picture_files.MAX_BYTES - len(data)) // len(scan)) + data[-2:]
    began = time.process_time()
    with pytest.raises(InvalidInput, match="passes; at most 100"):
        picture_files.decode(long[: picture_files.MAX_BYTES], "a.jpg")
    assert time.process_time() - began < 2


def test_too_many_pixels_are_refused_by_the_header() -> None:
    with pytest.raises(InvalidInput, match="100,000 × 100,000 pixels"):
        apart.decode(
            _png(100_000, 1).replace(struct.pack(">II", 100_000, 1), struct.pack(">II", 100_000, 100_000)), "a"
        )


@pytest.mark.parametrize("limit", ["MOST_BYTES = 2**25", "MOST_SECONDS = 0"])
def test_what_takes_more_than_it_may_ends_its_own_process(monkeypatch: pytest.MonkeyPatch, limit: str) -> None:
    """A PNG of 62 KB took 881 MiB in the web process."""
    program = f"import sys; from qfund.inputs import apart; apart.{limit}; apart.main()"
    monkeypatch.setattr(apart, "_COMMAND", (sys.executable, "-c", program))
    with pytest.raises(InvalidInput, match="more time or memory"):
        apart.decode(_png(4_000, 4_000), "a.png")


def test_nobody_waits_longer_than_that(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apart, "_COMMAND", (sys.executable, "-c", "import time; time.sleep(60)"))
    monkeypatch.setattr(apart, "_PATIENCE", 0.1)
    with pytest.raises(InvalidInput, match="more time or memory"):
        apart.decode(_jpeg(), "a.jpg")


def test_what_is_wrong_is_told_as_here() -> None:
    for data, said in ((b"", "is empty"), (b"hello", "is not a picture"), (_jpeg()[:200], "damaged or cut off")):
        with pytest.raises(InvalidInput, match=said):
            apart.decode(data, "a.jpg")
