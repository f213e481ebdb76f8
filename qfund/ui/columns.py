"""How columns of frames are shown: their widths, formats and explanations."""

from typing import Literal

TALL = 30  # rows of a table that is what its page is for, shown at once

ROWS = 14  # rows of a table that stand on a page without scrolling within it

HEIGHT = 530  # pixels of a longer one


def height(rows: int, most: int = TALL) -> int | Literal["content"]:
    """Of a table that is what its page is for: all rows at once, but ``most`` of very many."""
    return "content" if rows <= TALL else 35 * (most + 1)
