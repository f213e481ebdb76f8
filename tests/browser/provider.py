"""A provider of identities on this machine: OpenID Connect with signed tokens, as far as one that signs people in needs
it. Its page of signing in has a link for each person."""

import json
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from joserfc import jwt
from joserfc.jwk import RSAKey

PEOPLE = {"anna": "Anna Alder", "bert": "Bert Birch"}
CLIENT, SECRET = "qfund", secrets.token_urlsafe(16)


class _Handler(BaseHTTPRequestHandler):
    server: "Provider"

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
        if parts.path == "/.well-known/openid-configuration":
            self._json(self.server.described())
        elif parts.path == "/jwks":
            self._json({"keys": [self.server.key.as_dict(private=False)]})
        elif parts.path == "/authorize" and query["client_id"] == CLIENT:
            links = "".join(
                f'<p><a href="{escape(self.server.back(name, query))}">I am {who}</a></p>'
                for name, who in PEOPLE.items()
            )
            self._send(f"<!doctype html><title>Who are you?</title>{links}".encode(), "text/html")
        else:
            self.send_error(404)

    def do_POST(self) -> None:
        sent = self.rfile.read(int(self.headers["content-length"])).decode()
        query = {name: values[-1] for name, values in parse_qs(sent).items()}
        asked = self.server.codes.pop(query.get("code", ""), None)
        if urlsplit(self.path).path != "/token" or asked is None:
            self.send_error(400)
            return
        self._json(self.server.token(*asked))

    def log_message(self, format: str, *args: Any) -> None: ...

    def _json(self, content: object) -> None:
        self._send(json.dumps(content).encode(), "application/json")

    def _send(self, body: bytes, kind: str) -> None:
        self.send_response(200)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class Provider(ThreadingHTTPServer):
    """Each code can be exchanged once, for a token with the nonce that was asked for."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.key = RSAKey.generate_key(2048, parameters={"kid": "1"}, private=True)
        self.codes: dict[str, tuple[str, str]] = {}  # code → person and nonce

    def described(self) -> dict[str, object]:
        return {
            "issuer": self.url,
            "authorization_endpoint": f"{self.url}/authorize",
            "token_endpoint": f"{self.url}/token",
            "jwks_uri": f"{self.url}/jwks",
            "response_types_supported": ["code"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"],
        }

    def back(self, name: str, query: dict[str, str]) -> str:
        """Where a browser goes on to as this person."""
        code = secrets.token_urlsafe(8)
        self.codes[code] = name, query.get("nonce", "")
        return f"{query['redirect_uri']}?{urlencode({'code': code, 'state': query['state']})}"

    def token(self, name: str, nonce: str) -> dict[str, object]:
        now = int(time.time())
        claims = {"iss": self.url, "sub": f"id-{name}", "aud": CLIENT, "iat": now, "exp": now + 600, "nonce": nonce}
        signed = jwt.encode({"alg": "RS256", "kid": "1"}, claims | {"name": PEOPLE[name]}, self.key)
        return {"access_token": secrets.token_urlsafe(8), "token_type": "Bearer", "expires_in": 600, "id_token": signed}

    def secrets(self) -> str:
        """What Streamlit's ``secrets.toml`` says of it."""
        return (
            f'[auth]\nredirect_uri = "http://127.0.0.1:{{port}}/oauth2callback"\n'
            f'cookie_secret = "{secrets.token_urlsafe(24)}"\nclient_id = "{CLIENT}"\nclient_secret = "{SECRET}"\n'
            f'server_metadata_url = "{self.url}/.well-known/openid-configuration"\n'
        )


@contextmanager
def providing() -> Iterator[Provider]:
    with Provider() as provider:
        thread = threading.Thread(target=provider.serve_forever, daemon=True)
        thread.start()
        yield provider
        provider.shutdown()
        thread.join()
