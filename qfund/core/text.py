"""Text as files and people give it: UTF-8, a byte order mark before it or none, and lines that end at newlines."""

_MARK = "\ufeff"


def decoded(content: bytes) -> str:
    """Without the mark, lines ending with ``\\n``. Raises ``UnicodeDecodeError`` where it is no UTF-8, or holds zero
    bytes, which no text does: English in UTF-16 without a mark would be read as letters with zeros between."""
    if (zero := content.find(0)) >= 0:
        raise UnicodeDecodeError("utf-8", content, zero, zero + 1, "a zero byte")
    return unmarked(content.decode("utf-8")).replace("\r\n", "\n")


def unmarked(text: str) -> str:
    """Without the mark, which is no part of a text: some editors put it first."""
    return text.removeprefix(_MARK)


def lines(text: str) -> list[str]:
    """Split where a line ends, and nowhere else: ``str.splitlines`` also splits inside sentences (U+2028, U+0085)."""
    found = unmarked(text).replace("\r\n", "\n").split("\n")
    return found if found[-1] else found[:-1]
