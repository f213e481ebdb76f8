"""Results that ship with a catalog model, ``models/<name>/measured/*.json``: each of exactly one request, exactly the
weights that are there, and the device that it was measured on. ``python -m training.measured`` measures them.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from qfund.checkpoints.catalog import CATALOG
from qfund.core.errors import InvalidSpec, QfundError
from qfund.core.feature import Kind, lazily
from qfund.core.request import Request
from qfund.engine import key_of
from qfund.engine.kinds import kind_of

FOLDER = "measured"


@dataclass(frozen=True, slots=True)
class _Shipped:
    """``key`` is that of the request, the weights and the device (``qfund.engine.key_of``). ``whole`` is false of a
    result that was shortened to what some pages draw, and shall not stand for the whole one elsewhere."""

    kind: str
    schema: int
    key: str
    whole: bool
    result: msgspec.Raw


def find(request: Request, key: str, *, whole: bool = True) -> Any | None:
    """The result that ships for ``request``, whose key is ``key``; None where there is none, or an outdated one.

    Args:
        whole: whether a shortened one will not do.
    """
    kind, entry = kind_of(request), CATALOG.get(request.model)
    if entry is None:
        return None
    heads = [_head(kind, key, each) for each in (True, False) if each or not whole]
    for path in sorted((entry.folder / FOLDER).glob(f"{kind.name}*.json")):
        try:
            document = _starting(path, heads)
            if document is not None:
                return kind.read_result(msgspec.json.decode(document, type=_Shipped).result)
        except (OSError, msgspec.DecodeError):
            continue
    return None


def listed(kind: Kind) -> list[Any]:
    """A line for each result of a listed kind that ships, as ``Store.listed``; not of outdated ones."""
    assert kind.listed is not None
    line, found = lazily(kind.listed), []
    for entry in CATALOG.values():
        for path in sorted((entry.folder / FOLDER).glob(f"{kind.name}*.json")):
            try:
                document = msgspec.json.decode(path.read_bytes(), type=_Shipped)
                if (document.kind, document.schema) == (kind.name, kind.schema):
                    result = kind.read_result(document.result)
                    if key_of(result.spec) == document.key:
                        found.append(line.of(document.key, result))
            except (OSError, msgspec.DecodeError, QfundError):
                continue
    return found


def write(request: Request, result: Any, name: str = "", *, whole: bool = True) -> Path:
    """Ship a result; ``name`` tells several of one kind apart.

    Raises:
        InvalidSpec: ``request`` is not of a catalog model.
    """
    path, kind = place(request, name), kind_of(request)
    path.parent.mkdir(exist_ok=True)
    shipped = _Shipped(kind.name, kind.schema, key_of(request), whole, msgspec.Raw(msgspec.json.encode(result)))
    path.write_bytes(msgspec.json.encode(shipped))
    return path


def place(request: Request, name: str = "") -> Path:
    """The file that ``write`` writes.

    Raises:
        InvalidSpec: ``request`` is not of a catalog model.
    """
    if request.model not in CATALOG:
        raise InvalidSpec(f"{request.model} does not ship.", f"Choose among: {', '.join(CATALOG)}.")
    return CATALOG[request.model].folder / FOLDER / f"{'-'.join(filter(None, (kind_of(request).name, name)))}.json"


def _head(kind: Kind, key: str, whole: bool) -> bytes:
    """What the file of such a result begins with: enough to pass over all others without reading them."""
    document = msgspec.json.encode(_Shipped(kind.name, kind.schema, key, whole, msgspec.Raw(b"0")))
    return document.removesuffix(b"0}")


def _starting(path: Path, heads: list[bytes]) -> bytes | None:
    """The whole file, where it begins with one of ``heads``."""
    with path.open("rb") as file:
        begun = file.read(max(map(len, heads)))
        return begun + file.read() if begun.startswith(tuple(heads)) else None
