"""Who can reach the dashboard before anything is asked, and what a link that is opened may begin."""

import tomllib
from pathlib import Path

import pytest

from qfund.checkpoints import hub
from qfund.core.errors import ModelNotFound, TimedOut
from qfund.engine.job import Job
from qfund.features.memory.request.headers import HeadersRequest
from qfund.features.memory.request.plan import PlanRequest
from qfund.ui import services
from tests.ui import pages
from tests.ui.pages import ROOT, FakeJobs


def test_it_listens_to_this_machine_alone_unless_it_is_asked() -> None:
    assert tomllib.loads((ROOT / ".streamlit/config.toml").read_text())["server"]["address"] == "127.0.0.1"
    assert "\nHOST = 127.0.0.1\n" in (ROOT / "Makefile").read_text()
    assert "--server.address 0.0.0.0" in (ROOT / "Dockerfile").read_text()


def test_the_web_process_reads_nothing_of_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Opening a link read 24 headers of 9 MB in it."""

    def refuse(*_: object) -> None:
        raise AssertionError("read in the web process")

    monkeypatch.setattr(hub, "read_headers", refuse)
    monkeypatch.setenv("QFUND_ALLOW", "hub")
    pages.with_store(tmp_path, monkeypatch)
    jobs = pages.with_jobs(FakeJobs(), monkeypatch)
    monkeypatch.setattr(jobs, "wait", lambda key, timeout: None, raising=False)
    asked = PlanRequest("someone/model")
    for _ in range(3):
        assert isinstance(services.at_once(asked), Job)
    assert jobs.submitted == [HeadersRequest("someone/model")]
    with pytest.raises(TimedOut, match="still being read"):
        services.waited(asked)
    jobs.set(HeadersRequest("someone/model"), state="failed", error=ModelNotFound("It is gated."), finished=2**40)
    with pytest.raises(ModelNotFound, match="gated"):
        services.at_once(asked)
    assert len(jobs.submitted) == 1, "a failure is remembered"
