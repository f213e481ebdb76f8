"""How much visitors may leave in the server's memory, where Streamlit keeps what they upload."""

import os
import re
from typing import Any

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send
from streamlit import runtime

from qfund.core.errors import UsageError

_MIB = 1024**2
#: MiB of all visitors together, unless ``QFUND_UPLOADS_MIB`` says otherwise, and the part of it that one may have.
USUAL = 512
_PART = 8
#: Files of one visitor.
MOST_FILES = 200
_PATH = re.compile(r"/_stcore/upload_file/([^/]+)/[^/]+$")


def most() -> int:
    """Bytes of all visitors together.

    Raises:
        UsageError: the setting is no number above 0.
    """
    given = os.environ.get("QFUND_UPLOADS_MIB", "") or str(USUAL)
    if not given.isdecimal() or int(given) < 1:
        raise UsageError(f"QFUND_UPLOADS_MIB is {given!r}.", "Give a whole number above 0, for example 512.")
    return int(given) * _MIB


class Uploads:
    """Refuses an upload before its body is read: 411 without a length, 413 where the visitor has had their part, 503
    where all together have. What is on its way counts."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._most = most()
        self._coming: dict[str, int] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        found = _PATH.search(scope["path"]) if scope["type"] == "http" and scope["method"] == "PUT" else None
        if found is None:
            await self._app(scope, receive, send)
            return
        session, length = found[1], Headers(scope=scope).get("content-length", "")
        if not length.isdecimal() or len(length) > 12:
            await PlainTextResponse("How long is it?\n", 411)(scope, receive, send)
            return
        if (refused := self._refused(session, int(length))) is not None:
            await refused(scope, receive, send)
            return
        self._coming[session] = self._coming.get(session, 0) + int(length)
        try:
            await self._app(scope, receive, send)
        finally:
            self._coming[session] -= int(length)
            if not self._coming[session]:
                del self._coming[session]

    def _refused(self, session: str, length: int) -> Response | None:
        held = _held()
        files, own = held.get(session, (0, 0))
        own += self._coming.get(session, 0) + length
        if own > self._most // _PART or files >= MOST_FILES:
            return PlainTextResponse("You have uploaded as much as one visitor may. Remove some of it.\n", 413)
        total = sum(size for _, size in held.values()) + sum(self._coming.values()) + length
        if total > self._most:
            return PlainTextResponse("The server holds as many uploads as it can. Try again later.\n", 503)
        return None


def _held() -> dict[str, tuple[int, int]]:
    """Session → files and bytes that it has uploaded."""
    if not runtime.exists():
        return {}
    kept = runtime.get_instance().uploaded_file_mgr.file_storage  # type: ignore[attr-defined]
    return {session: (len(files), _bytes(list(files.values()))) for session, files in list(kept.items())}


def _bytes(files: list[Any]) -> int:
    return sum(len(file.data) for file in files)
