"""Whom a server answers, and with which headers: a page of a stranger reaches nothing, by whatever name it calls."""

import re

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocket, WebSocketDisconnect

from qfund.ui import server
from qfund.ui.server import policy

_HERE = "127.0.0.1:8501"


def _client(monkeypatch: pytest.MonkeyPatch, **settings: str) -> TestClient:
    """A server that answers everything with a word, and says it to whoever opens a websocket."""
    for name in ("QFUND_HOSTS", "QFUND_FRAMES", "SPACE_HOST"):
        monkeypatch.delenv(name, raising=False)
    for name, value in settings.items():
        monkeypatch.setenv(name, value)

    async def word(request: Request) -> PlainTextResponse:
        return PlainTextResponse("streamlit")

    async def talk(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.send_text("streamlit")
        await websocket.receive_bytes()

    routes = [
        WebSocketRoute("/_stcore/stream", talk),
        Route("/{path:path}", word, methods=["GET", "PUT", "POST", "DELETE"]),
    ]
    return TestClient(Starlette(routes=routes, middleware=server.MIDDLEWARE), f"http://{_HERE}")


@pytest.mark.parametrize(
    "host",
    [
        *("localhost", "localhost:8501", "LOCALHOST.", "127.0.0.1", "127.9.9.9:80", "[::1]:8501", "qfund.localhost"),
        *("192.168.1.7:8501", "[2001:db8::7]:8501"),
    ],
)
def test_a_server_without_names_answers_to_addresses(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    assert _client(monkeypatch).get("/x", headers={"host": host}).text == "streamlit"


@pytest.mark.parametrize(
    "host",
    [
        *("evil.example", "evil.example:8501", "localhost.evil.example", "127.0.0.1.evil.example", "evil@127.0.0.1"),
        *("", " ", "[::1", "127.0.0.1:port", "127.0.0.1/x", "a b", "127.0.0.1:99999", "localhost:8501, evil.example"),
    ],
)
def test_a_name_that_a_stranger_points_here_is_refused(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    client = _client(monkeypatch)
    for method, path in (("GET", "/x"), ("GET", "/memory"), ("PUT", "/_stcore/upload_file/a/b"), ("GET", "/captions")):
        answer = client.request(method, path, headers={"host": host}, follow_redirects=False)
        assert answer.status_code == 421 and "QFUND_HOSTS" in answer.text and "evil" not in answer.text
    with pytest.raises(WebSocketDisconnect), client.websocket_connect("/_stcore/stream", headers={"host": host}):
        pass
    assert client.get("/_stcore/health", headers={"host": host}).text == "streamlit"  # a probe's name for it


def test_two_hosts_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _client(monkeypatch).get("/x", headers=[("host", "localhost"), ("host", "localhost")]).status_code == 421


@pytest.mark.parametrize(
    ("host", "code"),
    [
        *(("qfund.example.org", 200), ("QFUND.example.org:443", 200), ("a.lab.example", 200), ("localhost", 200)),
        *(("lab.example", 421), ("evil.example.org", 421), ("192.168.1.7", 421), ("xlab.example", 421)),
    ],
)
def test_a_server_with_names_answers_to_these(monkeypatch: pytest.MonkeyPatch, host: str, code: int) -> None:
    client = _client(monkeypatch, QFUND_HOSTS="qfund.example.org, *.lab.example")
    assert client.get("/x", headers={"host": host}).status_code == code


def test_a_space_answers_to_its_name_and_the_hub_may_frame_it(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = _client(monkeypatch, SPACE_HOST="me-qfund.hf.space").get("/x", headers={"host": "me-qfund.hf.space"})
    assert answer.text == "streamlit" and "x-frame-options" not in answer.headers
    assert "frame-ancestors 'self' https://huggingface.co" in answer.headers["content-security-policy"]


@pytest.mark.parametrize(
    ("origin", "passes"),
    [
        *((None, True), ("http://127.0.0.1:8501", True), ("https://127.0.0.1:8501", True)),
        *(("http://127.0.0.1:3000", False), ("http://localhost:8501", False), ("https://evil.example", False)),
        *(("null", False), ("", False), ("file://", False), ("http://[", False), ("http://127.0.0.1:8501.evil", False)),
    ],
)
def test_only_its_own_pages_reach_the_websocket_or_change_anything(
    monkeypatch: pytest.MonkeyPatch, origin: str | None, passes: bool
) -> None:
    client = _client(monkeypatch)
    headers = {"host": _HERE} | ({} if origin is None else {"origin": origin})
    for method in ("PUT", "POST", "DELETE"):
        assert client.request(method, "/x", headers=headers).status_code == (200 if passes else 403)
    if passes:
        with client.websocket_connect("/_stcore/stream", headers=headers) as websocket:
            assert websocket.receive_text() == "streamlit"
            websocket.send_bytes(b"")
    else:
        with (
            pytest.raises(WebSocketDisconnect) as refused,
            client.websocket_connect("/_stcore/stream", headers=headers),
        ):
            pass
        assert refused.value.code == 1008
    assert client.get("/x", headers=headers).text == "streamlit"


def test_behind_a_proxy_that_names_it_otherwise_its_pages_are_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    client = _client(monkeypatch, QFUND_HOSTS="qfund.example.org")
    assert client.put("/x", headers={"origin": "https://qfund.example.org"}).status_code == 200
    assert client.put("/x", headers={"origin": "https://evil.example"}).status_code == 403


def test_a_text_on_the_websocket_is_a_goodbye(monkeypatch: pytest.MonkeyPatch) -> None:
    """Streamlit's server would raise an error of its own for it."""
    with (
        pytest.raises(WebSocketDisconnect) as left,
        _client(monkeypatch).websocket_connect("/_stcore/stream", headers={"host": _HERE}) as websocket,
    ):
        websocket.receive_text()
        websocket.send_text("{}")
        websocket.receive_text()
    assert left.value.code == 1003


@pytest.mark.parametrize("host", ["127.0.0.1", "evil.example"])
def test_every_answer_has_the_headers(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    client = _client(monkeypatch)
    for path in ("/", "/memory", "/x", "/captions", "/_stcore/health"):
        headers = client.get(path, headers={"host": host}, follow_redirects=False).headers
        assert headers["x-content-type-options"] == "nosniff" and headers["x-frame-options"] == "SAMEORIGIN"
        assert headers["referrer-policy"] == "same-origin"
        rules = dict(rule.split(" ", 1) for rule in headers["content-security-policy"].split("; "))
        assert rules["default-src"] == "'self'" and rules["frame-ancestors"] == "'self'"
        assert not re.search(r"\*|https?:|unsafe-inline|'unsafe-eval'", rules["script-src"])


def test_a_setting_cannot_end_its_directive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QFUND_FRAMES", "https://lab.example; script-src, 'x' https://b.example\n")
    monkeypatch.delenv("SPACE_HOST", raising=False)
    assert policy.frames() == ("script-src", "https://b.example")
