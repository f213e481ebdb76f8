"""What a browser is sent: scripts compressed and unchanged, and pages that say what they are."""

import gzip
import re

import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from qfund.core.feature import Page
from qfund.features import FEATURES
from qfund.ui import server
from qfund.ui.server import pages


@pytest.fixture(scope="module")
def client() -> TestClient:
    """Streamlit's place is taken by a server that answers everything with a word."""
    rest = Route("/{path:path}", lambda request: PlainTextResponse("streamlit"))
    app = Starlette(routes=[rest], middleware=server.MIDDLEWARE)
    return TestClient(app, "http://127.0.0.1:8501", follow_redirects=False)


def test_every_script_is_sent_compressed_and_whole(client: TestClient) -> None:
    names = sorted(pages._assets())
    assert len(names) > 50 and any("PlotlyChart" in name for name in names)
    for name in names[::20]:
        for before in ("", "/behind/a/proxy"):
            answer = client.get(f"{before}/static/{name}")
            assert answer.headers["content-encoding"] == "gzip" and "immutable" in answer.headers["cache-control"]
            assert answer.content == pages._assets()[name].read_bytes()
            assert answer.headers["content-type"].startswith(pages._TYPES[pages._assets()[name].suffix])


def test_whoever_cannot_unpack_and_whatever_is_no_script_is_streamlits(client: TestClient) -> None:
    name = next(iter(pages._assets()))
    for path, accepts in (
        (f"/static/{name}", "identity"),
        ("/static/../../secret.js", "gzip"),
        ("/static/js/none.js", "gzip"),
        ("/_stcore/health", "gzip"),
        ("/media/abc.js", "gzip"),
    ):
        assert client.get(path, headers={"accept-encoding": accepts}).text == "streamlit"
    assert client.post("/memory").status_code == 405


@pytest.mark.parametrize("row", [feature.page for feature in FEATURES if feature.page], ids=lambda row: row.path)
def test_the_html_of_a_page_names_it(client: TestClient, row: Page) -> None:
    path = "" if row.default else row.path
    for accepts in ("gzip", "identity"):
        answer = client.get(f"/{path}?model=x", headers={"accept-encoding": accepts})
        assert re.findall("<title>(.*?)</title>", answer.text) == [f"{row.title} · qfund"]
        assert row.description.partition("'")[0] in answer.text and '<div id="root">' in answer.text
        assert answer.headers["cache-control"] == "no-cache"
    assert len(gzip.compress(answer.content)) < len(answer.content) / 2


@pytest.mark.parametrize(
    ("asked", "goes"),
    [
        ("/compare", "./"),
        ("/compare?model=a%2Fb&p=int8&p=int4", "./?model=a%2Fb&p=int8&p=int4"),
        ("//elsewhere.example/captions", "./outputs?view=captions"),
        ("/captions", "./outputs?view=captions"),
        ("/captions?samples=24", "./outputs?view=captions&samples=24"),
    ],
)
def test_former_addresses_lead_on(client: TestClient, asked: str, goes: str) -> None:
    answer = client.get(asked)
    assert (answer.status_code, answer.headers["location"]) == (307, goes)
