"""What a chat shows for a link to a comparison."""

import html
import io
import re
from urllib.parse import urlencode

import pytest
from PIL import Image
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.testclient import TestClient

from qfund.engine import key_of
from qfund.engine.store import Store
from qfund.features.compare.request.examples import EXAMPLE
from qfund.features.compare.request.link import to_query
from qfund.ui.server import pages
from tests.features.compare.pages import COMPARE, FakeJobs
from tests.features.compare.reports import make_report


@pytest.fixture
def client() -> TestClient:
    pages._picture.cache_clear()
    return TestClient(Starlette(middleware=[Middleware(pages.Pages)]))


def test_a_link_to_a_report_says_what_it_says_and_has_a_picture(
    client: TestClient, store: Store, jobs: FakeJobs
) -> None:
    query = urlencode(to_query(EXAMPLE), doseq=True)
    store.put(COMPARE, key_of(EXAMPLE), make_report(EXAMPLE))
    text = client.get(f"/behind/?{query}", headers={"host": "qfund.example"}).text
    found = dict(re.findall('<meta property="([^"]+)" content="([^"]*)">', text))
    assert found["og:title"] == "pydoc-llama: FP32 against BF16, FP16 and INT8 weight-only"
    assert found["og:description"].startswith("Not decided yet: BF16, 960")
    assert html.unescape(found["og:image"]) == f"http://qfund.example/behind/share.png?{query}"
    answer = client.get(f"/behind/share.png?{query}")
    assert answer.headers["content-type"] == "image/png"
    assert Image.open(io.BytesIO(answer.content)).size == (1200, 630)


@pytest.mark.parametrize(
    "query", ["model=x", "v=1&model=no-such-model&p=int8", "v=1&model=dummy&p=int3&tokens=7", "%00"]
)
def test_a_link_to_nothing_known_is_a_page_like_any_other(client: TestClient, jobs: FakeJobs, query: str) -> None:
    answer = client.get(f"/?{query}")
    assert "og:image" not in answer.text and "<title>Compare · qfund</title>" in answer.text
    assert client.get(f"/share.png?{query}").status_code == 404
