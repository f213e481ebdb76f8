"""Signing in at a real provider, and what is whose then: a comparison of an own text, seen by nobody else."""

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from benchmarks.serving import ROOT, served
from qfund.engine import key_of
from qfund.features.compare.request.spec import Spec
from tests.browser.provider import providing
from tests.browser.visit import Server, link
from tests.patience import PATIENCE

MINE = Spec("dummy", precisions=("int8",), text="0 1 2 3 0 1 2 3", max_tokens=64)


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    with providing() as provider:
        secrets = tmp_path / "secrets.toml"
        secrets.write_text(provider.secrets())
        monkeypatch.setenv("STREAMLIT_SECRETS_FILES", str(secrets))
        with served(ROOT / "app.py", tmp_path / "home", ROOT, "--server.fileWatcherType=none") as url:
            yield Server(url, tmp_path / "home")


def arrive(context: BrowserContext, server: Server, path: str) -> Page:
    page = context.new_page()
    page.set_default_timeout(PATIENCE * 1000)
    page.goto(server.url + path)
    page.wait_for_selector("[data-qfund-drawn]", state="attached")
    return page


def sign_in(context: BrowserContext, server: Server, person: str) -> Page:
    page = arrive(context, server, "/")
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("link", name=f"I am {person}").click()
    expect(page.get_by_role("button", name=person)).to_be_visible()
    assert urlsplit(page.url).netloc == urlsplit(server.url).netloc
    return page


def measured(page: Page, server: Server) -> None:
    page.goto(server.url + link(MINE))
    expect(page.get_by_text("Not measured yet")).to_be_visible()
    page.get_by_role("button", name="Compare", exact=True).click()
    expect(page.get_by_text("Take it with you")).to_be_visible()


def api(server: Server, key: str = "") -> int:
    asked = urllib.request.Request(f"{server.url}/api/v1/compare/{key_of(MINE)}")
    if key:
        asked.add_header("Authorization", f"Bearer {key}")
    try:
        with urllib.request.urlopen(asked) as answer:
            return int(answer.status == 200 and "result" in json.load(answer))
    except urllib.error.HTTPError as error:
        return error.code


def test_what_somebody_signed_in_measures_of_their_own_text_is_theirs_alone(chromium: Browser, server: Server) -> None:
    anna, bert, nobody = (chromium.new_context() for _ in range(3))
    page = sign_in(anna, server, "Anna Alder")
    measured(page, server)
    saved = arrive(anna, server, "/saved")
    expect(saved.get_by_text("only you")).to_be_visible()
    for context, person in ((bert, "Bert Birch"), (nobody, "")):
        if person:
            sign_in(context, server, person)
        expect(arrive(context, server, "/saved").get_by_text("Nothing saved yet")).to_be_visible()
        expect(arrive(context, server, link(MINE)).get_by_text("Not measured yet")).to_be_visible()
    assert api(server) == 404
    saved.get_by_role("button", name="Anna Alder").click()
    saved.get_by_role("button", name="Key for programs").click()
    key = saved.get_by_text("qfund_").text_content()
    assert key and api(server, key.strip()) == 1
    saved.get_by_role("button", name="Sign out").click()
    expect(saved.get_by_role("button", name="Sign in")).to_be_visible()
    expect(arrive(anna, server, "/saved").get_by_text("Nothing saved yet")).to_be_visible()
    sign_in(anna, server, "Anna Alder")
    expect(arrive(anna, server, "/saved").get_by_text("only you")).to_be_visible()
    for context in (anna, bert, nobody):
        context.close()
