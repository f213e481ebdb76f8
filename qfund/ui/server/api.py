"""``/api/v1``: a report read, asked for, and followed by programs. Requests are the documents that a worker is sent."""

import math
import os
import re
from collections.abc import Callable
from typing import Any

import anyio.to_thread
import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from qfund.core.errors import ModelNotFound, QfundError, QueueFull, UnknownName
from qfund.core.feature import Kind, lazily
from qfund.core.names import look_up
from qfund.engine.job import Job
from qfund.engine.kinds import KINDS, kind_of
from qfund.ui import services
from qfund.ui.server import login, openapi, private
from qfund.ui.server.private import ANYBODY
from qfund.ui.server.rates import Rate

_KEY = re.compile("[0-9a-f]{32}")
#: Bytes of a request: texts; pictures are uploaded on the pages.
MOST_BYTES = 1 << 20
#: Looking is a hundred at once and sixty a minute; asking ten, and ten.
_looks, _asks = Rate(100, 60), Rate(10, 10)
#: HTTP's word for an error, and 500 for whatever is not the caller's.
_CODES: tuple[tuple[type[QfundError], int], ...] = ((QueueFull, 429), (UnknownName, 404), (ModelNotFound, 404))


def _json(content: Any, code: int = 200, **headers: str) -> Response:
    return Response(msgspec.json.encode(content), code, {"cache-control": "no-store", **headers}, "application/json")


def _problem(error: QfundError) -> Response:
    code = next((code for kind, code in _CODES if isinstance(error, kind)), 400 if error.exit_code == 2 else 422)
    body = {"error": type(error).__name__, "message": error.message, "remedy": error.remedy}
    return _json(body, code, **({"retry-after": "60"} if code == 429 else {}))


def _state(kind: Kind, key: str, job: Job | None, result: Any) -> dict[str, Any]:
    """What is known, as it is written."""
    found: dict[str, Any] = {"kind": kind.name, "key": key, "url": f"/api/v1/{kind.name}/{key}"}
    if result is not None:
        return found | {"state": "done", "result": result}
    assert job is not None
    found |= {"state": job.state, "phase": job.phase, "share": job.share, "position": job.position, "wait": job.wait}
    if job.error is not None:
        found["problem"] = {
            "error": type(job.error).__name__,
            "message": job.error.message,
            "remedy": job.error.remedy,
        }
    return found


def _read(kind: Kind, key: str) -> Response:
    job = services.jobs().get(key) if _KEY.fullmatch(key) else None
    if job is not None and kind_of(job.request) is not kind:
        job = None
    result = job.result if job is not None and job.state == "done" else None
    if result is None and (job is None or not job.active) and _KEY.fullmatch(key):
        held = services.stored(kind.name, key)
        result = held if isinstance(held, lazily(kind.result)) else None  # memory knows results by their key alone
    if result is None and job is None:
        return _json({"error": "NotFound", "message": "There is no such result.", "remedy": "Ask for it."}, 404)
    return _json(_state(kind, key, job, result))


def _ask(kind: Kind, document: bytes) -> Response:
    try:
        request = kind.read_request(document)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        body = {"error": "InvalidSpec", "message": f"Not a request: {error}.", "remedy": "See openapi.json."}
        return _json(body, 400)
    found = services.look_up(request)
    if found.result is not None:
        return _json(_state(kind, found.key, found.job, found.result))
    job = services.jobs().submit(request)
    return _json(_state(kind, job.key, job, None), 202)


def _address(request: Request) -> str:
    return request.client.host if request.client else ""


async def _work(request: Request, rate: Rate, act: Callable[[], Response]) -> Response:
    """``act`` in a thread, as the program that calls or as whose key it shows; whatever is wrong is told."""
    address = _address(request)
    if wait := rate.wait(address):
        body = {"error": "TooOften", "message": "Your network has asked too often.", "remedy": "Ask again later."}
        return _json(body, 429, **{"retry-after": str(math.ceil(wait))})
    scheme, _, shown = request.headers.get("authorization", "").partition(" ")
    ours = scheme.lower() == "bearer" and shown.strip().startswith("qfund_")  # others are for a proxy in between
    person = login.person_of(shown.strip()) if ours else ANYBODY
    if person is None:
        body = {"error": "NoKey", "message": "This key opens nothing here, or no longer.", "remedy": "Make a new one."}
        return _json(body, 401, **{"www-authenticate": "Bearer"})
    known = f"user {person}" if person != ANYBODY else f"program {address}"
    services.ASKING.set(services.named(known, address or None))
    services.PERSON.set(person)
    try:
        return await anyio.to_thread.run_sync(act)
    except QfundError as error:
        return _problem(error)


def _kind(request: Request) -> Kind:
    return look_up(KINDS, request.path_params["kind"], "kind of job")


def _mine() -> Response:
    if services.owner() == ANYBODY:
        body = {"error": "NoKey", "message": "Nobody is signed in.", "remedy": "Send a key of yours as a bearer token."}
        return _json(body, 401, **{"www-authenticate": "Bearer"})
    found = private.listed(services.store(), services.owner())
    return _json({"results": [row | {"url": f"/api/v1/{row['kind']}/{row['key']}"} for row in found]})


async def _get(request: Request) -> Response:
    key = request.path_params["key"]
    return await _work(request, _looks, lambda: _read(_kind(request), key))


async def _list(request: Request) -> Response:
    return await _work(request, _looks, _mine)


async def _post(request: Request) -> Response:
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        body = {"error": "InvalidSpec", "message": "A request is sent as application/json.", "remedy": ""}
        return _json(body, 415)
    document = bytearray()
    try:
        with anyio.fail_after(20):
            async for part in request.stream():
                document += part
                if len(document) > MOST_BYTES:
                    body = {"error": "InvalidSpec", "message": "The request is too long.", "remedy": "Send 1 MiB."}
                    return _json(body, 413)
    except (TimeoutError, ClientDisconnect):
        return _json({"error": "InvalidSpec", "message": "The request took too long.", "remedy": ""}, 408)
    return await _work(request, _asks, lambda: _ask(_kind(request), bytes(document)))


async def _described(request: Request) -> Response:
    return _json(openapi.document())


#: None where the operator has none of it: ``QFUND_API=0``.
ROUTES = (
    [
        Route("/api/v1/openapi.json", _described),
        Route("/api/v1/mine", _list),
        Route("/api/v1/{kind}", _post, methods=["POST"]),
        Route("/api/v1/{kind}/{key}", _get),
    ]
    if os.environ.get("QFUND_API", "1") != "0"
    else []
)
