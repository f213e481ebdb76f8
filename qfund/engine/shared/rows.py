"""A result as a row of its table, and which version the tables have: what every way into the database agrees on."""

import time
import zlib
from collections.abc import Iterable
from datetime import datetime
from typing import Any, Protocol

import msgspec

from qfund.core.feature import Kind, lazily
from qfund.core.request import holds_own

#: Version of the tables; ``Kind.schema`` is that of the documents in them.
SCHEMA = 1
#: The steps from the tables of earlier versions to today's (``qfund.engine.migrations``), the first one first.
REVISIONS = ("results", "jobs", "owners", "turns")
#: Seconds that a writer waits for another one.
BUSY = 20.0


class Keeper(Protocol):
    """Who keeps results by kind and key: a ``Store``, or the command line's shorter way to the same file. Each method
    may raise a ``StoreError``."""

    def get(self, kind: Kind, key: str) -> Any | None: ...
    def put(self, kind: Kind, key: str, result: Any) -> None: ...
    def delete(self, key: str) -> None: ...


def row_of(kind: Kind, key: str, result: Any) -> dict[str, Any]:
    """By column: of the table of listed kinds, or of the others'."""
    asked = getattr(result, "request", None) or getattr(result, "spec", None)
    own = asked is not None and holds_own(asked)
    row = {"key": key, "schema": kind.schema, "document": zlib.compress(msgspec.json.encode(result)), "own": own}
    if not kind.listed:
        return row | {"created": time.time(), "kind": kind.name}
    line = msgspec.json.encode(lazily(kind.listed).of(key, result)).decode()
    return row | {"created": _timestamp(result.created), "summary": line}


def result_of(kind: Kind, document: bytes | None) -> Any | None:
    """The inverse of its document; None where there is none that this version of qfund can read."""
    try:
        return None if document is None else kind.read_result(zlib.decompress(document))
    except (zlib.error, msgspec.DecodeError):
        return None


def lines_of(kind: Kind, summaries: Iterable[str]) -> list[Any]:
    """The lines of a listed kind that this version reads."""
    assert kind.listed is not None
    line, found = lazily(kind.listed), []
    for summary in summaries:
        try:
            found.append(msgspec.json.decode(summary, type=line))
        except msgspec.DecodeError:
            continue
    return found


def _timestamp(created: str) -> float:
    try:
        return datetime.fromisoformat(created).timestamp()
    except ValueError:
        return time.time()
