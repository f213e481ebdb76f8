"""Texts that are named on the command line: a file, standard input, a folder of files."""

import sys
from pathlib import Path

from qfund.core.errors import InvalidInput
from qfund.core.text import decoded, lines
from qfund.inputs.prompts import BETWEEN, separated
from qfund.inputs.texts import MAX_TEXT, MAX_TEXTS, NamedText


def read(path: Path) -> str:
    """A UTF-8 file, with a byte order mark or without one; ``-`` is standard input.

    Raises:
        InvalidInput: it is not there, cannot be read, or is something else.
    """
    try:
        return decoded(sys.stdin.buffer.read() if str(path) == "-" else path.read_bytes())
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{path} cannot be read: it is no UTF-8 text.", "Give a UTF-8 text file.") from error
    except OSError as error:
        missing = isinstance(error, FileNotFoundError)
        why = "there is no such file" if missing else (error.strerror or str(error)).lower()
        raise InvalidInput(f"{path} cannot be read: {why}.", "Check the path.") from error


def given(texts: list[str] | None, file: Path | None) -> tuple[str, ...] | None:
    """Texts given one by one, then those of a file: one a line, or, where a line is ``---``, what stands between such
    lines. None where neither is given.

    Raises:
        InvalidInput: as ``read``.
    """
    if file is None:
        return None if texts is None else tuple(texts)
    content = read(file)
    each = lines(content)
    return (*(texts or ()), *(separated(content) if BETWEEN in each else filter(str.strip, each)))


def read_folder(folder: Path) -> tuple[NamedText, ...]:
    """Every file in a folder and in those inside it, by its path from there; hidden ones are left out.

    Raises:
        InvalidInput: no such folder, no file in it, too many or too large ones, or one that is no UTF-8 text.
    """
    if not folder.is_dir():
        raise InvalidInput(f"There is no folder {folder}.", "Check the path.")
    names = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    shown = {name: names[name] for name in sorted(names) if not any(part.startswith(".") for part in name.split("/"))}
    if not shown:
        raise InvalidInput(f"{folder} holds no text.", "Name a folder of UTF-8 text files.")
    size = sum(path.stat().st_size for path in shown.values())
    if len(shown) > MAX_TEXTS or size > 4 * MAX_TEXT:  # a character has at most four bytes
        raise InvalidInput(
            f"{folder} holds {len(shown):,} files of {size:,} bytes together.",
            f"Give at most {MAX_TEXTS:,} files of {MAX_TEXT:,} characters together.",
        )
    return tuple(NamedText(name, read(path)) for name, path in shown.items())
