"""Texts named on the command line: with a byte order mark or without, the same request."""

import io
from pathlib import Path

import pytest

from qfund.commandline import texts
from qfund.commandline.parser import parse
from qfund.core.errors import InvalidInput
from qfund.inputs.texts import NamedText

MARK = b"\xef\xbb\xbf"
THREE = ("one two", "three\u2028four", "five\x85six")


@pytest.mark.parametrize("mark", [b"", MARK])
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_files_standard_input_and_folders(
    mark: bytes, end: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = mark + end.join(line.encode() for line in THREE) + end
    path = tmp_path / "three.txt"
    path.write_bytes(content)
    whole = "\n".join(THREE) + "\n"
    assert texts.read(path) == whole
    assert texts.read_folder(tmp_path) == (NamedText("three.txt", whole),)
    assert texts.given(["zero"], path) == ("zero", *THREE)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content), "latin-1"))
    assert texts.read(Path("-")) == whole
    path.write_bytes(mark + end.join([b"one", b"---", b"two", b"three"]))
    assert texts.given(None, path) == ("one", "two\nthree")


def test_a_mark_in_an_argument() -> None:
    assert parse(["compare", "dummy", "--text", "\ufeff0 1"]).text == "0 1"


def test_other_encodings_are_refused(tmp_path: Path) -> None:
    (tmp_path / "wide.txt").write_bytes("one".encode("utf-16"))
    with pytest.raises(InvalidInput, match=r"no UTF-8 text"):
        texts.read(tmp_path / "wide.txt")
