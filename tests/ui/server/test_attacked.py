"""A real server under what strangers send: nothing ends it, nothing is told of it, and it does not grow."""

import random
import re
import socket
import ssl
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from websockets.exceptions import WebSocketException
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Origin, Subprotocol

from benchmarks.serving import ROOT, served

_SEED = 16


class Attacked:
    """A server, and what it says of itself."""

    def __init__(self, url: str, home: Path) -> None:
        self.host, _, port = urlsplit(url).netloc.partition(":")
        self.port = int(port)
        self.log = home / "app.log"

    def send(self, raw: bytes, more: bool = True) -> bytes:
        """What comes back for these bytes, as they are, until the server hangs up. Without ``more`` we say goodbye."""
        got = b""
        with suppress(OSError), socket.create_connection((self.host, self.port), timeout=10) as line:
            line.sendall(raw)
            if not more:
                line.shutdown(socket.SHUT_WR)
            while part := line.recv(65_536):
                got += part
        return got

    def request(self, first: str, *headers: str, body: bytes = b"", host: str | None = None) -> bytes:
        lines = [first, f"Host: {host or f'{self.host}:{self.port}'}", "Connection: close", *headers]
        return self.send("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body)

    def memory(self) -> int:
        """MiB that the web process holds."""
        for folder in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if f"--server.port={self.port}".encode() in (folder / "cmdline").read_bytes():
                    return int((folder / "statm").read_text().split()[1]) * 4096 // 1024**2
        raise AssertionError("the server is gone")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Attacked]:
    home = tmp_path_factory.mktemp("home")
    with served(ROOT / "app.py", home, ROOT, "--server.fileWatcherType=none") as url:
        attacked = Attacked(url, home)
        attacked.request("GET / HTTP/1.1")
        yield attacked
        assert attacked.request("GET /_stcore/health HTTP/1.1").endswith(b"ok"), "it has not survived"
        said = attacked.log.read_text()
        assert "Traceback" not in said, said[said.index("Traceback") - 500 :][:4000]


def _code(answer: bytes) -> int:
    found = re.match(rb"HTTP/1\.1 (\d{3})", answer)
    return int(found[1]) if found else 0


_PATHS = [
    *(
        "/../../etc/passwd",
        "/..%2f..%2fetc%2fpasswd",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/static/../../app.py",
        "//etc/passwd",
    ),
    *(
        "/static/%00",
        "/%00",
        "/\\..\\..\\windows",
        "/media/../app.py",
        "/media/" + "a" * 2000,
        "/static/js/%252e%252e/x",
    ),
    *("/_stcore/upload_file/a/b", "/_stcore/message?hash=1", "/_stcore/script-health-check", "/_stcore/agent/interact"),
    *("/component/../../app.py", "/component/x/../../../etc/passwd", "/_stcore/bidi-components/x/../../etc/passwd"),
    *("/app.py", "/.git/config", "/.streamlit/secrets.toml", "/qfund/ui/server/api.py", "/captions?" + "a=b&" * 3000),
    *("/?model=" + "%00" * 500, "/memory?model=/etc/passwd", "/?" + "p=int8&" * 2000, "/api/v1/compare/../../x"),
    *("/api/v1/%2e%2e/x", "/api/v1/compare/" + "0" * 32, "/api/v1/../../etc/passwd/x", "/metrics/../metrics"),
    *("/oauth2callback?code=x&state=y", "/auth/login", "/auth/logout", "/?%ff%fe=%80", "/" + "x/" * 500),
]


@pytest.mark.parametrize("path", _PATHS, ids=lambda path: path[:30])
def test_a_path_leads_to_nothing_of_the_machine(server: Attacked, path: str) -> None:
    answer = server.request(f"GET {path} HTTP/1.1")
    assert _code(answer) and _code(answer) != 500, answer[:300]
    for secret in (b"root:x:", b"import streamlit as st", b"Traceback", str(ROOT).encode(), b"[core]"):
        assert secret not in answer, answer[:2000]
    assert b"nosniff" in answer or _code(answer) == 400, answer[:300]


@pytest.mark.parametrize(
    "method", ["POST", "PUT", "DELETE", "PATCH", "TRACE", "OPTIONS", "CONNECT", "PROPFIND", "X" * 50]
)
def test_no_method_does_more(server: Attacked, method: str) -> None:
    for path in ("/", "/memory", "/_stcore/health", "/_stcore/stream", "/api/v1/compare", "/metrics", "/media/x"):
        answer = server.request(f"{method} {path} HTTP/1.1", "Content-Length: 0")
        assert _code(answer) != 500 and b"Traceback" not in answer, (method, path, answer[:300])


def test_headers_of_every_size_and_kind(server: Attacked) -> None:
    for header in (
        *(
            "Cookie: " + "a=b; " * 5_000,
            "X: " + "a" * 200_000,
            "Accept-Encoding: " + "gzip," * 5_000,
            "Range: bytes=0-,1-",
        ),
        *("Content-Length: -1", "Content-Length: 99999999999999999999", "Transfer-Encoding: chunked, chunked", ": x"),
        *(
            "Origin: http://[",
            "X-Forwarded-For: 127.0.0.1",
            "Cookie: _streamlit_user=x; qfund_visitor=\xff\xfe",
            "\x00: y",
        ),
        *(
            "Upgrade: websocket",
            "Expect: 100-continue",
            "Accept: " + "text/html;q=0.1," * 3_000,
            "Authorization: Bearer \xe9",
        ),
    ):
        answer = server.request("GET /metrics HTTP/1.1", header)
        assert _code(answer) != 500 and b"Traceback" not in answer, (header[:40], answer[:300])
    many = server.request("GET / HTTP/1.1", *(f"X-{number}: y" for number in range(5_000)))
    assert _code(many) in (0, 200, 400, 431)


def test_other_names_and_other_sites_are_refused(server: Attacked) -> None:
    for host in ("evil.example", f"evil.example:{server.port}", "localhost.evil.example"):
        assert _code(server.request("GET / HTTP/1.1", host=host)) == 421
    for path in ("/_stcore/upload_file/a/b", "/api/v1/plan"):
        assert _code(server.request(f"PUT {path} HTTP/1.1", "Origin: https://evil.example", "Content-Length: 0")) == 403


def _websocket(server: Attacked, origin: str | None, host: str | None = None) -> ClientConnection:
    """A visitor's line. ``host``: by what name the page calls the server, as when a stranger's name leads here."""
    sock = socket.create_connection((server.host, server.port), timeout=10)
    uri = f"ws://{host or f'{server.host}:{server.port}'}/_stcore/stream"
    return connect(uri, sock=sock, origin=Origin(origin) if origin else None, subprotocols=[Subprotocol("streamlit")])


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        *(("https://evil.example", None), ("null", None), ("http://127.0.0.1:1", None)),
        *(("http://evil.example:8501", "evil.example:8501"), (None, "evil.example")),
    ],
)
def test_a_strangers_page_gets_no_websocket(server: Attacked, origin: str | None, host: str | None) -> None:
    with pytest.raises(WebSocketException), _websocket(server, origin, host):
        pass


def test_nonsense_on_the_websocket_ends_that_line_only(server: Attacked) -> None:
    chance = random.Random(_SEED)
    own = f"http://{server.host}:{server.port}"
    for message in ("{}", "", b"", b"\xff" * 100, chance.randbytes(1_000), chance.randbytes(100_000)):
        with suppress(WebSocketException, TimeoutError, ssl.SSLError), _websocket(server, own) as line:
            line.send(message)
            line.recv(timeout=2)
    assert _code(server.request("GET /memory HTTP/1.1")) == 200


def test_bytes_that_are_no_http(server: Attacked) -> None:
    chance = random.Random(_SEED)
    for raw in (
        *(
            b"",
            b"\r\n\r\n",
            b"GET / HTTP/9.9\r\n\r\n",
            b"GET /\r\n\r\n",
            b"GET  HTTP/1.1\r\n\r\n",
            b"\x16\x03\x01\x02\x00" * 50,
        ),
        *(
            b"GET / HTTP/1.1\r\n\r\n",
            b"GET / HTTP/1.0\r\n\r\n",
            b"GET http://evil.example/ HTTP/1.1\r\nHost: evil.example\r\n\r\n",
        ),
        *(b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",),
        *(chance.randbytes(500) for _ in range(20)),
    ):
        answer = server.send(raw, more=False)
        assert b" 500 " not in answer[:20] and b"Traceback" not in answer, (raw[:60], answer[:300])


def test_it_does_not_grow(server: Attacked) -> None:
    """Uploads to no session, bodies that never end, and addresses by the thousand."""
    for _ in range(30):  # what the first ones bring in
        server.request("GET /?a=b HTTP/1.1")
    before = server.memory()
    for number in range(300):
        server.request(f"GET /memory?model=x{number}&{'y' * 1000} HTTP/1.1", f"Cookie: qfund_visitor=v{number}")
        server.request(f"GET /api/v1/compare/{number:032x} HTTP/1.1")
    big = b"x" * 2_000_000
    for _ in range(15):
        length = f"Content-Length: {len(big)}"
        server.request("PUT /_stcore/upload_file/none/1 HTTP/1.1", length, body=big)
        server.request("POST /api/v1/compare HTTP/1.1", length, "Content-Type: application/json", body=big)
    unfinished = [socket.create_connection((server.host, server.port), timeout=5) for _ in range(50)]
    for line in unfinished:
        line.sendall(b"POST /api/v1/compare HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n{")
    assert server.request("GET /_stcore/health HTTP/1.1").endswith(b"ok")
    for line in unfinished:
        line.close()
    assert server.memory() - before < 60
