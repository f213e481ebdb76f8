"""Scripts compressed, pages by every name that they have had, and in a page's HTML what the page is (of a link to a
result what that says, with a picture), how it keeps its history, and what its elements lack for some of those who use
it."""

import gzip
import html
import logging
import re
import secrets
from functools import cache, lru_cache
from pathlib import Path
from urllib.parse import parse_qs

import anyio.to_thread
import streamlit as st
from starlette.datastructures import URL, Headers
from starlette.requests import HTTPConnection
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from qfund.core.feature import Page, Shared, lazily

_STATIC = Path(st.__file__).parent / "static"
#: What compressing makes smaller; fonts and pictures are compressed already.
_TYPES = {".js": "text/javascript", ".css": "text/css"}
_FOR_EVER = "public, immutable, max-age=31536000"  # a file's name holds a hash of its content
_ASSETS = Path(__file__).parents[1] / "assets"
#: Tells one browser from another, so that whoever comes back to a job is known as the one who asked for it.
COOKIE = "qfund_visitor"
_TITLE = re.compile("<title>.*?</title>")
_SCRIPT = re.compile("<script>(.*?)</script>", re.DOTALL)
_PICTURE = "share.png"  # beside the default page, with the same parameters
_LONGEST = 8000  # characters of parameters; what shares links cuts longer ones
_LOG = logging.getLogger(__name__)


@cache
def _assets() -> dict[str, Path]:
    """Scripts and styles of Streamlit's pages by what follows ``/static/`` in their addresses."""
    folder = _STATIC / "static"
    return {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.suffix in _TYPES}


@cache
def _compressed(path: Path) -> bytes:
    """Once for each server: of the largest it takes a fifth of a second."""
    return gzip.compress(path.read_bytes(), 6, mtime=0)


@cache
def _own(name: str) -> str:
    return (_ASSETS / name).read_text("utf-8")


def _index(page: Page, shared: Shared | None = None, picture: str = "") -> bytes:
    """Streamlit's one HTML file, with what search engines, chats and the browser's history want to know of a page, and
    of what the link leads to; ``picture`` is the address of a picture of that."""
    title, told = page.tab, page.description
    named = {"og:site_name": "qfund", "og:type": "website", "og:title": title, "og:description": told}
    if shared is not None:
        told = shared.description
        named |= {"og:title": shared.title, "og:description": told, "og:image": picture}
        named |= {"og:image:width": "1200", "og:image:height": "630", "twitter:card": "summary_large_image"}
    told = html.escape(told)
    metas = (f'<meta property="{name}" content="{html.escape(content)}">' for name, content in named.items())
    head = (
        f"<title>{html.escape(title)}</title>"
        f'<meta name="description" content="{told}">{"".join(metas)}'
        f"<style>{_own('page.css')}</style><script>{_own('history.js')}{_own('mended.js')}</script>"
    )
    return _TITLE.sub(lambda _: head, (_STATIC / "index.html").read_text("utf-8"), count=1).encode()


def inline_scripts() -> list[str]:
    """What stands in a page's HTML as a script, the same in all."""
    return _SCRIPT.findall(_index(Page("", "", "")).decode())


@lru_cache(64)
def _picture(make: str, query: str) -> bytes | None:
    """A PNG; kept, since a chat's every reader asks for it."""
    found = _shared(make, query)
    return None if found is None else found.picture()


def _shared(make: str, query: str) -> Shared | None:
    """What this link leads to; nothing where that cannot be told, whatever the reason: the page itself will say."""
    try:
        found: Shared | None = lazily(make)(parse_qs(query, keep_blank_values=True))
    except Exception:
        _LOG.exception("What a link leads to cannot be told")
        return None
    return found


class Pages:
    """Answers for scripts, styles and the HTML of pages; everything else is Streamlit's."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        rows = [feature.page for feature in lazily("qfund.features:FEATURES") if feature.page]
        self._pages = {"" if row.default else row.path: row for row in rows}
        self._former = {name: (row.path, query) for row in rows for name, query in row.former.items()}
        self._former |= {row.path: ("", "") for row in rows if row.default}
        self._one = anyio.CapacityLimiter(1)  # pictures are drawn one after the other

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer = await self._answer(scope) if scope["type"] == "http" and scope["method"] == "GET" else None
        await (answer or self._app)(scope, receive, send)

    async def _answer(self, scope: Scope) -> Response | None:
        before, _, last = scope["path"].rpartition("/")
        if last in self._former:
            path, *opens = self._former[last]
            query = "&".join(filter(None, (*opens, scope["query_string"].decode("latin-1"))))
            # Relative: it stays on this host and behind whatever it is behind.
            return RedirectResponse(f"./{path}{'?' * bool(query)}{query}", 307)
        zipped = "gzip" in Headers(scope=scope).get("accept-encoding", "")
        query = scope["query_string"].decode("latin-1")
        query = query if len(query) <= _LONGEST else ""
        if last == _PICTURE and self._pages[""].shared and query:
            png = await anyio.to_thread.run_sync(_picture, self._pages[""].shared, query, limiter=self._one)
            return Response(png, media_type="image/png") if png else Response(status_code=404)
        if last in self._pages and _STATIC.name not in before:
            row, shared = self._pages[last], None
            if row.shared and query:
                shared = await anyio.to_thread.run_sync(_shared, row.shared, query)
            picture = f"{str(URL(scope=scope)).partition('?')[0].rpartition('/')[0]}/{_PICTURE}?{query}"
            body, media, keep = _index(row, shared, picture), "text/html", "no-cache"
            body = gzip.compress(body) if zipped else body
        elif zipped and (path := _assets().get(scope["path"].rpartition(f"/{_STATIC.name}/")[2])):
            body, media, keep = await anyio.to_thread.run_sync(_compressed, path), _TYPES[path.suffix], _FOR_EVER
        else:
            return None
        headers = {"cache-control": keep, "vary": "accept-encoding"}
        answer = Response(body, media_type=media, headers=headers | ({"content-encoding": "gzip"} if zipped else {}))
        if media == "text/html" and COOKIE not in HTTPConnection(scope).cookies:
            secure = scope.get("scheme") == "https"
            answer.set_cookie(COOKIE, secrets.token_urlsafe(16), httponly=True, samesite="lax", secure=secure)
        return answer
