"""Results that ship with a catalog model, ``models/<name>/measured/*.json``: each of exactly one request, exactly the
weights that are there, and the device that it was measured on. ``python -m training.evidence`` measures them.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from qfund.catalog import CATALOG
from qfund.engine import key_of
from qfund.engine.kinds import Kind, kind_of
from qfund.errors import InvalidSpec
from qfund.report import SCHEMA
from qfund.spec import Request

FOLDER = "measured"


@dataclass(frozen=True, slots=True)
class _Shipped:
    """``key`` is that of the request and the weights (``qfund.engine.key_of``)."""

    kind: str
    schema: int
    key: str
    result: msgspec.Raw


def find(request: Request, key: str) -> Any | None:
    """The result that ships for ``request``, whose key is ``key``; None where there is none, or an outdated one."""
    kind, entry = kind_of(request), CATALOG.get(request.model)
    if entry is None:
        return None
    for path in sorted((entry.folder / FOLDER).glob(f"{kind.name}*.json")):
        try:
            found = msgspec.json.decode(path.read_bytes(), type=_Shipped)
            if (found.kind, found.schema, found.key) == (kind.name, _schema(kind), key):
                return kind.read_result(found.result)
        except (OSError, msgspec.DecodeError):
            continue
    return None


def write(request: Request, result: Any, name: str = "") -> Path:
    """Ship a result; ``name`` tells several of one kind apart.

    Raises:
        InvalidSpec: ``request`` is not of a catalog model.
    """
    kind = kind_of(request)
    if request.model not in CATALOG:
        raise InvalidSpec(f"{request.model} does not ship.", f"Choose among: {', '.join(CATALOG)}.")
    folder = CATALOG[request.model].folder / FOLDER
    folder.mkdir(exist_ok=True)
    path = folder / f"{'-'.join(filter(None, (kind.name, name)))}.json"
    shipped = _Shipped(kind.name, _schema(kind), key_of(request), msgspec.Raw(msgspec.json.encode(result)))
    path.write_bytes(msgspec.json.encode(shipped))
    return path


def _schema(kind: Kind) -> int:
    """Of the stored results; reports say their own."""
    return SCHEMA if kind.schema is None else kind.schema
