"""Text as files hold it."""

import pytest

from qfund.core.text import decoded, lines
from qfund.inputs.prompts import separated

LONE = "a\u2028b\x85c\x0bd\x0ce\x1cf\u2029g\rh"  # what str.splitlines takes for line ends


@pytest.mark.parametrize("content", [b"one\ntwo\n", b"\xef\xbb\xbfone\ntwo\n", b"\xef\xbb\xbfone\r\ntwo\r\n"])
def test_a_byte_order_mark_and_the_kind_of_line_end_are_no_text(content: bytes) -> None:
    assert decoded(content) == "one\ntwo\n"


def test_only_the_first_mark_is_one_and_only_utf8_is_read() -> None:
    assert decoded("\ufeffone\ufeff".encode()) == "one\ufeff"
    with pytest.raises(UnicodeDecodeError):
        decoded("one".encode("utf-16"))
    with pytest.raises(UnicodeDecodeError):
        decoded("one".encode("utf-16-le"))


def test_lines_end_at_newlines_alone() -> None:
    assert lines(f"\ufeffone\n{LONE}\r\n\nthree\n") == ["one", LONE, "", "three"]
    assert lines("") == []
    assert separated(f"{LONE}\n---\r\ntwo\nlines\n---\n") == (LONE, "two\nlines")
