"""Scripts compressed, pages by every name that they have had, and in a page's HTML what the page is, how it keeps its
history, and what its elements lack for some of those who use it."""

import gzip
import html
import re
import secrets
from functools import cache
from pathlib import Path

import anyio.to_thread
import streamlit as st
from starlette.datastructures import Headers
from starlette.requests import HTTPConnection
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from qfund.core.feature import Page, lazily

_STATIC = Path(st.__file__).parent / "static"
#: What compressing makes smaller; fonts and pictures are compressed already.
_TYPES = {".js": "text/javascript", ".css": "text/css"}
_FOR_EVER = "public, immutable, max-age=31536000"  # a file's name holds a hash of its content
_ASSETS = Path(__file__).parents[1] / "assets"
#: Tells one browser from another, so that whoever comes back to a job is known as the one who asked for it.
COOKIE = "qfund_visitor"
_TITLE = re.compile("<title>.*?</title>")
_SCRIPT = re.compile("<script>(.*?)</script>", re.DOTALL)


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


def _index(page: Page) -> bytes:
    """Streamlit's one HTML file, with what search engines, chats and the browser's history want to know of a page."""
    title, told = html.escape(page.tab), html.escape(page.description)
    head = (
        f"<title>{title}</title>"
        f'<meta name="description" content="{told}">'
        f'<meta property="og:title" content="{title}"><meta property="og:description" content="{told}">'
        f"<style>{_own('page.css')}</style><script>{_own('history.js')}{_own('mended.js')}</script>"
    )
    return _TITLE.sub(lambda _: head, (_STATIC / "index.html").read_text("utf-8"), count=1).encode()


def inline_scripts() -> list[str]:
    """What stands in a page's HTML as a script, the same in all."""
    return _SCRIPT.findall(_index(Page("", "", "")).decode())


class Pages:
    """Answers for scripts, styles and the HTML of pages; everything else is Streamlit's."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        rows = [feature.page for feature in lazily("qfund.features:FEATURES") if feature.page]
        self._pages = {"" if row.default else row.path: row for row in rows}
        self._former = {name: (row.path, query) for row in rows for name, query in row.former.items()}
        self._former |= {row.path: ("", "") for row in rows if row.default}

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
        if last in self._pages and _STATIC.name not in before:
            body, media, keep = _index(self._pages[last]), "text/html", "no-cache"
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
