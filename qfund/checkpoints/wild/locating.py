"""Where a quantised file is that somebody names: a path here, or a file or repository of the Hub."""

from collections.abc import Callable, Sequence
from pathlib import Path

from qfund.checkpoints import catalog
from qfund.checkpoints.headers import shortened
from qfund.checkpoints.wild import table
from qfund.checkpoints.wild.packed.method import method_of, says_so
from qfund.core.errors import ModelNotFound
from qfund.precisions import recipes
from qfund.precisions.files import HUB_FILE

Progress = Callable[[str, float], None]


def here(file: str) -> Path | None:
    """The path, where it is one of this machine; None for one of the Hub.

    Raises:
        ModelNotFound: a path with nothing there.
        InvalidSpec: this server opens no local files.
    """
    path = catalog.path_of(file)
    if _exists(path) or path.is_absolute() or file.startswith((".", "~")):
        catalog.must_be_allowed("folder")
        if not _exists(path):
            raise ModelNotFound(
                f"There is no file or folder {shortened(str(path))}.",
                "Check the path, or name a file of the Hub (owner/name:file.gguf).",
            )
        return path.resolve()
    if HUB_FILE.fullmatch(file):
        catalog.must_be_allowed("hub")
        return None
    raise ModelNotFound(
        f"There is no file or folder {shortened(file)}.",
        "Check the path, or name a file of the Hub (owner/name:file.gguf).",
    )


def is_file(model: str) -> bool:
    """Whether what is named as a model is a quantised file that is none by itself: a file, or a folder that
    transformers does not open."""
    found = HUB_FILE.fullmatch(model)
    return is_packed(model, alone=True) or (
        model.endswith(".gguf") and (catalog.path_of(model).is_file() or bool(found and found["path"]))
    )


def is_packed(model: str, alone: bool = False) -> bool:
    """Whether what is named is a folder here in a format of the table; ``alone``: in one that only this reads."""
    path = catalog.path_of(model)
    method = method_of(path) if _exists(path) and path.is_dir() else None
    return method in table.FORMATS and (not alone or method == "mlx" or not says_so(path))


def fetched(file: str, largest: int, progress: Progress) -> Path:
    """The path of a file, downloaded where it is one of the Hub.

    Raises:
        QfundError: as ``here``; or the Hub does not have it, or it is larger than ``largest`` bytes.
    """
    if (path := here(file)) is not None:
        return path
    from qfund.checkpoints import hub  # its client takes a second to import

    found = HUB_FILE.fullmatch(file)
    assert found is not None
    if found["path"]:
        return hub.download_file(found["repository"], found["revision"], found["path"], largest, progress)
    return hub.download(found["repository"], found["revision"], largest, progress)[0]


def identity(files: Sequence[str]) -> str:
    """What identifies the content of these files, for keys of stored results. Raises as ``here``."""
    found = []
    for file in files:
        path = here(file)
        if path is None:
            found.append(f"hub:{file}")
        else:
            found.append(recipes.read(path).id if recipes.is_recipe(path) else table.open_file(path).id)
    return " ".join(found)


def importance_identity(file: str) -> str:
    """What identifies an importance matrix's content. Raises as ``here``."""
    from qfund.checkpoints.wild.gguf import imatrix  # NumPy, which a plan of headers does without

    path = here(file)
    return f"hub:{file}" if path is None else imatrix.identity(path)


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):
        return False
