"""What a browser may do with what this server sends: run its scripts and no others, call it and nobody else, show it in
no foreign frame."""

import hashlib
import os
from base64 import b64encode
from collections.abc import Iterable
from contextlib import suppress

from h11 import LocalProtocolError
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from qfund.ui.server.pages import inline_scripts


def frames() -> tuple[str, ...]:
    """Sites that may show the dashboard within a page of theirs: ``QFUND_FRAMES``, and of a Hugging Face Space the Hub,
    whose page of a Space is a frame."""
    given = os.environ.get("QFUND_FRAMES", "").replace(",", " ").split()
    # Of a site only what cannot end the directive or begin another.
    sites = [site for site in given if not set(site) & set(";'\"") and site.isascii() and site.isprintable()]
    return (*sites, *(["https://huggingface.co"] if os.environ.get("SPACE_HOST") else []))


def policy(scripts: Iterable[str], sites: Iterable[str]) -> str:
    """The value of Content-Security-Policy for HTML with these inline ``scripts``.

    Styles may stand inline: Streamlit's and Plotly's are made in the browser. Components' scripts are handed over as
    blobs by Streamlit's, which is itself from here; it counts 64 bits in WebAssembly.
    """
    hashes = [f"'sha256-{b64encode(hashlib.sha256(text.encode()).digest()).decode()}'" for text in scripts]
    rules = {
        "default-src": ["'self'"],
        "script-src": ["'self'", *hashes, "blob:", "'wasm-unsafe-eval'"],
        "style-src": ["'self'", "'unsafe-inline'"],
        "img-src": ["'self'", "data:", "blob:"],
        "font-src": ["'self'", "data:"],
        "media-src": ["'self'", "data:", "blob:"],
        "worker-src": ["'self'", "blob:"],
        "object-src": ["'none'"],
        "base-uri": ["'none'"],
        "form-action": ["'self'"],
        "frame-ancestors": ["'self'", *sites],
    }
    return "; ".join(" ".join((name, *values)) for name, values in rules.items())


class Policy:
    """Adds the headers to every answer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        sites = frames()
        self._headers = {
            "content-security-policy": policy(inline_scripts(), sites),
            "x-content-type-options": "nosniff",
            # An address may name a model that is nobody's business.
            "referrer-policy": "same-origin",
            "permissions-policy": "camera=(), microphone=(), geolocation=(), payment=()",
            "cross-origin-opener-policy": "same-origin",
        }
        if not sites:  # it knows no list
            self._headers["x-frame-options"] = "SAMEORIGIN"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def sent(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(self._headers)
            with suppress(LocalProtocolError):  # whoever asked has hung up
                await send(message)

        await self._app(scope, receive, sent if scope["type"] == "http" else send)
