"""Which models can be picked: those that ship in ``models/``, a local folder, a Hub id; and what is allowed where."""

import os
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from qfund.checkpoints import checkpoint, sentences
from qfund.checkpoints.headers import shortened
from qfund.checkpoints.identity import content_id
from qfund.core.errors import InvalidSpec, ModelNotFound, UnsupportedModel
from qfund.core.names import unknown
from qfund.core.request import Request

MODELS = Path(__file__).resolve().parents[2] / "models"
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")


@dataclass(frozen=True, slots=True)
class Entry:
    """A model that ships with the project."""

    name: str
    title: str
    description: str

    @property
    def folder(self) -> Path:
        return MODELS / self.name


#: The model that pages and commands begin with.
EXAMPLE = "pydoc-llama"

CATALOG: dict[str, Entry] = {
    entry.name: entry
    for entry in (
        Entry(
            "pydoc-llama",
            "pydoc-llama: a small trained language model",
            "A Llama of 4.07 M parameters, trained by this project on the documentation that every Python carries.",
        ),
        Entry(
            "shapes-blip",
            "shapes-blip: a small trained captioner",
            "A BLIP of 1.45 M parameters, trained by this project to caption pictures of shapes that it draws itself.",
        ),
        Entry(
            "docstring-kinds",
            "docstring-kinds: a small trained classifier",
            "A DistilBERT of 0.76 M parameters, trained by this project to tell what kind of object a docstring is of.",
        ),
        Entry(
            "docstring-vectors",
            "docstring-vectors: a small trained sentence encoder",
            "A DistilBERT of 0.74 M parameters, trained by this project to bring the halves of a docstring together.",
        ),
        Entry(
            "dummy",
            "dummy: the lesson's toy model",
            "Six layers of width 2 with random weights (seed 123): small enough to follow every number by hand.",
        ),
    )
}


@dataclass(frozen=True, slots=True)
class Source:
    """Where a model comes from. ``kind`` is ``"shipped"``, ``"folder"`` or ``"hub"``; a Hub model has no folder yet."""

    kind: str
    name: str
    folder: Path | None
    revision: str | None


def allowed() -> frozenset[str]:
    """What may be named besides the catalog: ``QFUND_ALLOW``, a part of ``folder,hub`` (the default)."""
    return frozenset(os.environ.get("QFUND_ALLOW", "folder,hub").replace(" ", "").split(",")) & {"folder", "hub"}


def device() -> str:
    """``QFUND_DEVICE``: the torch device that models run on, ``cpu`` unless told otherwise."""
    return os.environ.get("QFUND_DEVICE", "cpu")


def locate(model: str, revision: str | None = None) -> Source:
    """Decide what a model's name means.

    Raises:
        UnknownName: neither a catalog name, nor a folder, nor of a Hub id's form.
        ModelNotFound: a path with no folder there.
        InvalidSpec: a folder or Hub id where this server allows none, or a revision of something that has none.
    """
    if model in CATALOG:
        kind, folder = "shipped", CATALOG[model].folder
    elif model.endswith(".gguf"):
        raise UnsupportedModel(
            f"{shortened(model)} is a GGUF file: what it costs shows beside the checkpoint that it was made from.",
            f"Name that one, and the file with it: qfund compare ORIGINAL --file {shortened(model)}; what is in the "
            f"file tells qfund audit {shortened(model)}.",
        )
    elif (path := path_of(model)).is_absolute() or model.startswith((".", "~")) or _is_dir(path):
        must_be_allowed("folder")
        if not _is_dir(path):
            raise ModelNotFound(
                f"There is no folder {shortened(str(path))}.", "Check the path, or name a catalog model or a Hub id."
            )
        kind, folder = "folder", sentences.transformer(path.resolve())
    elif _HUB_ID.fullmatch(model):
        must_be_allowed("hub")
        return Source("hub", model, None, revision)
    else:
        raise unknown(CATALOG, shortened(model), "model", "Or name a local folder or a Hub id (owner/name).")
    if revision is not None:
        raise InvalidSpec(f"{model} has no revisions.", "Give a revision with a Hub id only.")
    return Source(kind, model, folder, None)


def path_of(model: str) -> Path:
    """The home of a user that there is not stays as it is named."""
    try:
        return Path(model).expanduser()
    except RuntimeError:
        return Path(model)


def _is_dir(path: Path) -> bool:
    """Also of a name that is longer than the system takes, or that this user may not look into: it is none."""
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False


def must_be_allowed(kind: str) -> None:
    """Raises ``InvalidSpec`` where this server opens no ``"folder"``, or nothing of the ``"hub"``."""
    if kind not in allowed():
        what = "local folders" if kind == "folder" else "models from the Hub"
        raise InvalidSpec(
            f"This server does not open {what}.",
            f"Choose among: {', '.join(CATALOG)}; or run qfund on your own machine.",
        )


def _identified(folder: Path) -> str:
    """The id of a folder, whose headers are read and checked once as long as no file of it changes.

    Raises:
        QfundError: as ``checkpoint.read``.
    """
    try:
        return _checked(folder, content_id(folder))
    except OSError:
        return checkpoint.read(folder).id  # which says what is wrong


@lru_cache(maxsize=64)
def _checked(folder: Path, content: str) -> str:
    return checkpoint.read(folder).id


def identity(request: Request) -> str:
    """What identifies the model's content and the device it runs on, for keys of jobs and stored results. No torch.

    Raises:
        QfundError: as ``locate`` and ``checkpoint.read``.
    """
    source = locate(request.model, request.revision)
    if source.folder is None:
        where = f"hub:{source.name}@{source.revision or 'main'} on {device()}"
    else:
        where = f"{_identified(source.folder)} on {device()}"
    files, importance = getattr(request, "files", ()), getattr(request, "imatrix", None)
    if not files and not importance:
        return where
    from qfund.checkpoints.wild import locating  # which reads this module

    where += f" beside {locating.identity(files)}" if files else ""
    return f"{where} weighted by {locating.importance_identity(importance)}" if importance else where
