"""Who is answered: requests that name this server by a name that it has, from pages that are its own.

A page of a stranger whose name is pointed at this machine (DNS rebinding) names that name as the host, and a page that
only calls here names another origin. Both are refused before anything else looks at them, for websockets too.
"""

import os
import socket
from collections.abc import Collection
from ipaddress import ip_address
from urllib.parse import urlsplit

from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from streamlit.proto.BackMsg_pb2 import BackMsg

_HEALTH = "/_stcore/health"  # probes name whatever address they were given, and it says "ok" and no more
_SAFE = ("GET", "HEAD", "OPTIONS")


def named() -> frozenset[str]:
    """Names that the server was told to answer to: ``QFUND_HOSTS``, as ``qfund.example.org,*.lab.example``; ``*`` is
    any. On a Hugging Face Space that one's name too, which the Space says itself."""
    given = f"{os.environ.get('QFUND_HOSTS', '')},{os.environ.get('SPACE_HOST', '')}"
    return frozenset(name.strip().lower().rstrip(".") for name in given.split(",")) - {""}


def host_of(netloc: str) -> str | None:
    """The name in ``name:port``, in small letters; None where it is none."""
    try:
        parts = urlsplit(f"//{netloc}")
        _ = parts.port  # raises where it is none
    except ValueError:
        return None
    plain = not (parts.path or parts.query or parts.fragment or "@" in netloc)
    return (parts.hostname or "").rstrip(".") or None if plain else None


def answers_to(host: str | None, names: Collection[str]) -> bool:
    """Whether a server of these ``names`` is meant by ``host``. Loopback always; without names whatever is no domain
    that a stranger could point here: addresses in numbers, and what this machine is called."""
    if host is None:
        return False
    if _is_among(host, names) or is_loopback(host):
        return True
    return not names and (_address(host) or host == socket.gethostname().lower())


def comes_from_here(origin: str | None, host: str, names: Collection[str]) -> bool:
    """Whether a request's ``Origin`` is a page of this server. Programs that are no browsers send none.

    Args:
        host: what the request calls the server, with its port.
        names: as of ``answers_to``: behind a proxy that calls the server by another name, the page has one of these.
    """
    if origin is None:
        return True
    try:
        parts = urlsplit(origin)
    except ValueError:
        return False
    if parts.scheme not in ("http", "https"):  # "null" is what a sandboxed frame and a local file say
        return False
    return parts.netloc.lower() == host.lower() or _is_among(host_of(parts.netloc) or "", names)


def _is_among(host: str, names: Collection[str]) -> bool:
    return any(name in ("*", host) or (name.startswith("*.") and host.endswith(name[1:])) for name in names)


def _address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def is_loopback(host: str) -> bool:
    """Whether it names the machine itself."""
    return host == "localhost" or host.endswith(".localhost") or (_address(host) and ip_address(host).is_loopback)


class Guard:
    """Refuses what is not for this server: 421 for a host that it is not, 403 for what another site's page sends."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._names = named()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        if refused := self._refused(scope):
            if scope["type"] == "http":
                await refused(scope, receive, send)
            else:  # before it is accepted: the handshake is answered with 403
                await receive()
                await send({"type": "websocket.close", "code": 1008})
            return
        await self._app(scope, _meaningful(receive) if scope["type"] == "websocket" else receive, send)

    def _refused(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        hosts = headers.getlist("host")
        if scope["type"] == "http" and scope["method"] in _SAFE and scope["path"].endswith(_HEALTH):
            return None
        if len(hosts) != 1 or not answers_to(host_of(hosts[0]), self._names):
            return PlainTextResponse(
                "This server does not answer to that name. Who runs it lists its names in QFUND_HOSTS.\n", 421
            )
        changes = scope["type"] == "websocket" or scope["method"] not in _SAFE
        if changes and not comes_from_here(headers.get("origin"), hosts[0], self._names):
            return PlainTextResponse("Another site's page may not do this here.\n", 403)
        return None


def _meaningful(receive: Receive) -> Receive:
    """Streamlit's pages send its messages and nothing else. Whoever sends anything else has left: Streamlit's server
    takes a text for an error of its own, and writes a traceback for what it cannot read."""

    async def next_message() -> Message:
        message = await receive()
        if message["type"] == "websocket.receive":
            try:
                BackMsg.FromString(message.get("bytes") or b"")
            except DecodeError:
                return {"type": "websocket.disconnect", "code": 1002}
            if message.get("bytes") is None:
                return {"type": "websocket.disconnect", "code": 1003}
        return message

    return next_message
