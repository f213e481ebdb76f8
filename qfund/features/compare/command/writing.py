"""Files that a command writes of a report beside what it prints."""

from argparse import Namespace
from collections.abc import Callable
from pathlib import Path

from qfund.commandline.table import Option
from qfund.core.errors import InvalidInput
from qfund.core.feature import lazily
from qfund.features.compare.command.printing import margin
from qfund.features.compare.request.decision import Margin
from qfund.features.compare.request.report import Report

#: Option → what makes the file.
_MAKES = {
    "html": "qfund.features.compare.document.page:page",
    "card": "qfund.features.compare.document.card:card",
}
DOCUMENTS = (
    Option("--html", "write the report as one page that opens anywhere, offline too", "F", Path),
    Option("--card", "write a section for a model card on the Hub, Markdown and YAML", "F", Path),
    Option("--pictures", "write each picture as SVG and as PNG into this folder", "D", Path),
)


def asked(options: Namespace) -> bool:
    return any(getattr(options, name) is not None for name in (*_MAKES, "pictures"))


def check(options: Namespace) -> None:
    """Before anything is measured.

    Raises:
        InvalidInput: there is no folder for a file.
    """
    files = (path.parent for name in _MAKES if (path := getattr(options, name)) is not None)
    for folder in filter(None, (*files, options.pictures)):
        if not folder.is_dir():
            raise InvalidInput(f"There is no folder {folder}.", "Make it, or name another.")


def write(found: Report, options: Namespace) -> None:
    """
    Raises:
        InvalidInput: a file cannot be written.
    """
    check(options)
    for name, make in _MAKES.items():
        path: Path | None = getattr(options, name)
        if path is not None:
            document: Callable[[Report, Margin], bytes] = lazily(make)
            _put(path, document(found, margin(options)))
    if options.pictures is not None:
        _pictures(options.pictures, found, margin(options))


def _pictures(folder: Path, found: Report, judged: Margin) -> None:
    from qfund.features.compare.document.pictures import pictures_of
    from qfund.features.compare.document.png import png

    for picture in pictures_of(found, judged):
        _put(folder / f"{picture.name}.svg", picture.drawing.file())
        _put(folder / f"{picture.name}.png", png(picture.drawing))


def _put(path: Path, content: bytes) -> None:
    try:
        path.write_bytes(content)
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        raise InvalidInput(f"{path} cannot be written: {why}.", "Name a file in a folder that is there.") from error
