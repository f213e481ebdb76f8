"""What all sessions of a server share, whatever one of them sends."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest
import streamlit
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient
from streamlit.runtime.app_session import AppSession
from streamlit.testing.v1 import AppTest

from qfund.engine import jobs as engine_jobs
from qfund.engine import key_of
from qfund.engine.job import NOBODY, Job, Record, Visitor
from qfund.engine.jobs import Jobs
from qfund.engine.kinds import KINDS
from qfund.engine.process import Process
from qfund.engine.shared.ledger import Ledger
from qfund.engine.store import Store
from qfund.features.compare.request.link import to_query
from qfund.features.compare.request.spec import Spec
from qfund.ui import server, services
from qfund.ui.server import login
from qfund.ui.server.pages import COOKIE
from tests.engine import toys
from tests.features.compare.pages import FakeJobs
from tests.patience import PATIENCE, until
from tests.ui import pages


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[list[Process]]:
    """The services of a server that has served nobody; its workers."""
    found: list[Process] = []
    monkeypatch.setenv("QFUND_HOME", str(tmp_path))

    class Counted(Process):
        def __init__(self, command: Any) -> None:
            super().__init__(command)
            found.append(self)

    for name, kind in toys.TOYS.items():
        monkeypatch.setitem(KINDS, name, kind)
    monkeypatch.setattr(engine_jobs, "Process", Counted)
    monkeypatch.setattr(services, "Jobs", partial(Jobs, command=toys.COMMAND, identify=lambda request: "weights"))
    with pages.server(monkeypatch):
        yield found
        services._jobs().close()


def test_messages_that_clear_caches_lose_no_job_and_start_no_worker(started: list[Process]) -> None:
    jobs = services.jobs()
    keys = [jobs.submit(toys.Sum("a-model", numbers)).key for numbers in ((-1,), (1, 2), (3, 4))]
    until(lambda: (job := services.jobs().get(keys[0])) is not None and job.phase.startswith("pid "))
    for _ in range(100):
        AppSession._handle_clear_cache_request(MagicMock())  # what a session does at such a message
        services.jobs().warm()
        assert all((job := services.jobs().get(key)) is not None and job.active for key in keys)
    assert len(started) == 1
    services.jobs().cancel(keys[0])
    every = services._jobs()
    states = [job.state for key in keys if (job := every.wait(key, PATIENCE))]
    assert states == ["cancelled", "done", "done"]
    assert services.store() is services.store()


def test_a_server_goes_on_with_what_one_before_it_has_left_before_anybody_visits(started: list[Process]) -> None:
    ledger = Ledger(Store())
    key = key_of(toys.Sum("a-model", (1, 2)), lambda request: "weights")
    ledger.claim(Record(Job(key, toys.Sum("a-model", (1, 2)))))
    ledger.close()
    with TestClient(Starlette(lifespan=server.lifespan)):
        until(lambda: Store().get(KINDS["sum"], key) == toys.Total(3, 1))


def test_a_page_knows_its_visitor_by_the_session_or_by_the_cookie(monkeypatch: pytest.MonkeyPatch) -> None:
    def script() -> None:
        import streamlit as st

        from qfund.ui import services

        st.session_state.found = services.visitor()

    def visitor() -> Visitor:
        found: Visitor = AppTest.from_function(script).run().session_state.found
        return found

    assert services.visitor() == NOBODY
    session = visitor()
    assert len(session.id) == 16 and session.address is None
    monkeypatch.setattr(type(streamlit.context), "cookies", {COOKIE: "a browser"})
    browser = visitor()
    assert browser.id != session.id and visitor() == browser
    monkeypatch.setattr(login, "user", lambda: "a" * 32)
    anna = visitor()
    monkeypatch.setattr(type(streamlit.context), "cookies", {COOKIE: "another browser"})
    assert anna.id != browser.id and visitor() == anna, "places are a person's"


def test_a_browser_is_given_a_cookie_once_and_no_script_can_read_it() -> None:
    rest = Route("/{path:path}", lambda request: PlainTextResponse("streamlit"))
    client = TestClient(Starlette(routes=[rest], middleware=server.MIDDLEWARE), "http://127.0.0.1")
    given = client.get("/memory").headers["set-cookie"]
    assert given.startswith(f"{COOKIE}=") and "HttpOnly" in given and "SameSite=lax" in given
    assert "set-cookie" not in client.get("/memory").headers  # the client has sent it
    with TestClient(client.app, base_url="https://127.0.0.1") as secure:
        assert "Secure" in secure.get("/").headers["set-cookie"]
    assert "set-cookie" not in client.get("/elsewhere").headers


ASKED = Spec("dummy", precisions=("bf16", "int8"), max_tokens=4096)


@pytest.mark.parametrize(
    ("changes", "labels"), [({}, ["Cancel"]), ({"others": 2}, ["Leave"]), ({"abandoned": True, "others": 1}, [])]
)
def test_a_job_that_waits_says_where_and_the_way_out_of_it_what_it_does(
    changes: dict[str, Any], labels: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    jobs = pages.with_jobs(FakeJobs(), monkeypatch)
    pages.with_store(tmp_path, monkeypatch)
    with pages.server(monkeypatch):
        jobs.set(ASKED, state="queued", position=2, wait=150.0, attempts=2, **changes)
        at = pages.opened("pages/compare.py", to_query(ASKED))
    assert [button.label for button in at.button if str(button.key).startswith("cancel_")] == labels
    assert ("You have left this job" in pages.texts(at)) == (not labels)
    (bar,) = at.get("progress")
    expected = "Started again after a restart · Waiting: number 2 in the queue · its turn in about 2 min"
    assert bar.proto.text == expected
