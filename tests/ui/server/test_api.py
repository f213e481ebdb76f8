"""Programs: what they read and ask for, what is refused and how, and who may see metrics."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.testclient import TestClient

from qfund.core.errors import QueueFull, UnsupportedModel
from qfund.engine import key_of
from qfund.engine.jobs import Jobs
from qfund.engine.kinds import KINDS
from qfund.engine.store import Store
from qfund.features.compare.request.spec import Spec
from qfund.features.memory.request.plan import PlanRequest
from qfund.ui import server, services
from qfund.ui.server import api, login, metrics, openapi
from qfund.ui.server.rates import Rate
from tests.features.compare.reports import make_report
from tests.ui import pages
from tests.ui.pages import FakeJobs

_SPEC = Spec("pydoc-llama", precisions=("int8",), max_tokens=333)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    return pages.with_store(tmp_path, monkeypatch)


@pytest.fixture
def jobs(monkeypatch: pytest.MonkeyPatch) -> FakeJobs:
    return pages.with_jobs(FakeJobs(), monkeypatch)


@pytest.fixture
def client(store: Store, jobs: FakeJobs, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    for name in ("QFUND_PUBLIC", "QFUND_METRICS_TOKEN", "QFUND_HOSTS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(api, "_looks", Rate(1000, 60))
    monkeypatch.setattr(api, "_asks", Rate(1000, 60))
    services.results.clear()
    yield _app()
    services.results.clear()


def _app(address: str = "127.0.0.1") -> TestClient:
    app = Starlette(routes=[metrics.ROUTE, *api.ROUTES], middleware=[*server.MIDDLEWARE, Middleware(metrics.Private)])
    return TestClient(app, "http://127.0.0.1:8501", raise_server_exceptions=True, client=(address, 50_000))


def _post(client: TestClient, kind: str, content: bytes, **headers: str) -> tuple[int, dict[str, object]]:
    answer = client.post(f"/api/v1/{kind}", content=content, headers={"content-type": "application/json", **headers})
    return answer.status_code, answer.json()


def test_a_report_is_asked_for_followed_and_read(client: TestClient, jobs: FakeJobs, store: Store) -> None:
    code, asked = _post(client, "compare", msgspec.json.encode(_SPEC))
    assert (code, asked["state"], asked["share"]) == (202, "running", 0.25) and jobs.submitted
    url = str(asked["url"])
    assert url == f"/api/v1/compare/{key_of(_SPEC)}" and client.get(url).json()["phase"] == "loading BF16"
    report = make_report(_SPEC)
    jobs.set(_SPEC, state="done", result=report)
    found = client.get(url).json()
    assert found["state"] == "done" and found["result"] == json.loads(msgspec.json.encode(report))
    jobs.known.clear()
    store.put(KINDS["compare"], key_of(_SPEC), report)
    assert client.get(url).json()["result"] == found["result"]
    code, again = _post(client, "compare", msgspec.json.encode(_SPEC))
    assert code == 200 and again["result"] == found["result"] and len(jobs.submitted) == 1


def test_a_key_leads_to_nothing_under_another_kind(client: TestClient, store: Store) -> None:
    key = key_of(_SPEC)
    store.put(KINDS["compare"], key, make_report(_SPEC))
    assert client.get(f"/api/v1/compare/{key}").status_code == 200
    assert client.get(f"/api/v1/plan/{key}").status_code == 404


def test_who_shows_a_key_is_answered_as_who_made_it_and_nobody_else_sees_what_is_theirs(
    client: TestClient, jobs: FakeJobs, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    anna, bert = "a" * 32, "b" * 32
    monkeypatch.setattr(login, "get_secrets_auth_section", lambda: {"cookie_secret": "of all servers"})
    every: Any = SimpleNamespace(
        submit=lambda request, visitor: jobs.submit(request), get=lambda key, *visitor: jobs.get(key)
    )
    monkeypatch.setattr(services, "jobs", lambda: services.Signed(every, services.visitor()))
    monkeypatch.setattr(services, "every_job", lambda: every)
    own = replace(_SPEC, text="mine")
    url, keys = f"/api/v1/compare/{key_of(own)}", {who: login.key_for_programs(who) for who in (anna, bert)}

    def shown(key: str, path: str = url) -> tuple[int, dict[str, Any]]:
        answer = client.get(path, headers={"authorization": f"Bearer {key}"})
        return answer.status_code, answer.json()

    code, _ = _post(client, "compare", msgspec.json.encode(own), authorization=f"Bearer {keys[anna]}")
    assert code == 202 and shown(keys[anna])[1]["state"] == "running"
    assert shown(keys[bert])[0] == client.get(url).status_code == shown("hf_of_a_proxy")[0] == 404
    jobs.known.clear()
    store.put(KINDS["compare"], key_of(own), make_report(own))
    assert shown(keys[anna])[1]["state"] == "done"
    assert shown(keys[bert])[0] == client.get(url).status_code == 404
    (row,) = shown(keys[anna], "/api/v1/mine")[1]["results"]
    assert (row["kind"], row["key"], row["url"]) == ("compare", key_of(own), url)
    assert shown(keys[bert], "/api/v1/mine") == (200, {"results": []})
    assert client.get("/api/v1/mine").status_code == 401
    forged = keys[bert].replace(bert, anna)
    over = login.key_for_programs(anna, 0.0)
    for key in (forged, over, f"{keys[anna]}0", "qfund_", "qfund____", "qfund_a_1e3_b", f"qfund_{anna}_99999999999_0"):
        assert shown(key)[0] == 401
    assert login.person_of("qfund_a_²_é") is None is login.person_of(f"qfund_{anna}_99999999999_é")
    monkeypatch.setattr(login, "get_secrets_auth_section", lambda: {"cookie_secret": "another"})
    assert shown(keys[anna])[0] == 401
    monkeypatch.setattr(login, "get_secrets_auth_section", dict)
    assert shown(keys[anna])[0] == 401 and login.person_of(login.key_for_programs(anna)) is None


def test_a_failure_is_told(client: TestClient, jobs: FakeJobs) -> None:
    job = jobs.set(_SPEC, state="failed", error=UnsupportedModel("No such architecture.", "Choose another."))
    found = client.get(f"/api/v1/compare/{job.key}").json()
    assert found["state"] == "failed" and found["problem"]["message"] == "No such architecture."


@pytest.mark.parametrize(
    ("kind", "content", "code", "said"),
    [
        ("compare", b"{", 400, "Not a request"),
        ("compare", b"[" * 100_000, 400, "Not a request"),
        ("compare", b'{"model": 3}', 400, "Not a request"),
        ("compare", b"\xff\xfe", 400, "Not a request"),
        ("compare", b'{"model": "pydoc-llama", "precisions": ["int3x"]}', 404, "int3x"),
        ("plan", b'{"model": "no such thing"}', 404, "no such thing"),
        ("plan", b'{"model": "/etc"}', 404, "config.json"),
        ("nothing", b"{}", 404, "kind of job"),
        ("compare", b" " * (api.MOST_BYTES + 1), 413, "too long"),
    ],
)
def test_what_is_wrong_is_told_and_no_job_begins(
    client: TestClient, jobs: FakeJobs, kind: str, content: bytes, code: int, said: str
) -> None:
    got, body = _post(client, kind, content)
    assert got == code and said in str(body["message"]) and not jobs.submitted


def test_no_form_of_another_site_asks_for_anything(client: TestClient, jobs: FakeJobs) -> None:
    content = msgspec.json.encode(_SPEC)
    assert client.post("/api/v1/compare", content=content, headers={"content-type": "text/plain"}).status_code == 415
    headers = {"content-type": "application/json", "origin": "https://evil.example"}
    assert client.post("/api/v1/compare", content=content, headers=headers).status_code == 403
    assert not jobs.submitted


@pytest.mark.parametrize("key", ["0" * 31, "0" * 33, "g" * 32, "..%2f..%2fetc", "0" * 32, "%00", "x" * 5000])
def test_a_key_that_is_none_finds_nothing(client: TestClient, key: str) -> None:
    assert client.get(f"/api/v1/compare/{key}").status_code == 404


def test_who_asks_too_often_is_told_when_to_come_back(
    client: TestClient, jobs: FakeJobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api, "_asks", Rate(3, 6))
    codes = [_post(client, "plan", b'{"model": "dummy"}')[0] for _ in range(5)]
    assert codes == [202, 202, 202, 429, 429]
    answer = client.post("/api/v1/plan", content=b"{}", headers={"content-type": "application/json"})
    assert 1 <= int(answer.headers["retry-after"]) <= 10
    assert _post(_app("10.0.0.9"), "plan", b'{"model": "dummy"}')[0] == 202, "others are not held up"
    jobs.refuse = QueueFull("The queue is full (8 waiting).", "Try again in a few minutes.")
    assert _post(_app("10.0.0.10"), "plan", b'{"model": "dummy"}')[0] == 429


def test_a_network_of_ipv6_is_one_address_and_a_minute_brings_new_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    rate = Rate(2, 60)
    assert [rate.wait(f"2001:db8::{number}") for number in range(3)] == [0, 0, 1]
    assert rate.wait("2001:db8:0:1::1") == 0 == rate.wait("10.0.0.1") == rate.wait("no address")
    now = 1.0
    assert [rate.wait("2001:db8::9"), rate.wait("2001:db8::9")] == [0, 1]
    for number in range(20_000):
        rate.wait(str(number))
    assert len(rate._known) <= 10_000


def test_the_document_has_every_kind_and_every_reference_leads_somewhere(client: TestClient) -> None:
    found = client.get("/api/v1/openapi.json").json()
    paths = {f"/api/v1/{kind}{key}" for kind in KINDS for key in ("", "/{key}")}
    assert paths | {"/api/v1/mine"} == set(found["paths"])
    text = json.dumps(openapi.document())
    names = {part.partition('"')[0] for part in text.split('"#/components/schemas/')[1:]}
    assert names <= set(found["components"]["schemas"])
    ids = [act["operationId"] for path in found["paths"].values() for act in path.values()]
    assert len(ids) == len(set(ids)) == 2 * len(KINDS) + 1


def test_metrics_count_what_jobs_did(client: TestClient, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Jobs(store)
    monkeypatch.setattr(services, "every_job", lambda: real)
    metrics._of.cache_clear()
    client.get("/metrics")
    for tell in real.on_end:
        job = replace(FakeJobs().set(PlanRequest("dummy")), submitted=10.0, started=12.0, finished=17.0, state="done")
        tell(job)
    services.FOUND.update({"store": 3})
    families = {family.name: family for family in text_string_to_metric_families(client.get("/metrics").text)}
    values = {(one.name, *one.labels.values()): one.value for family in families.values() for one in family.samples}
    assert values["qfund_jobs", "long", "queued"] == 0 == values["qfund_jobs", "quick", "running"]
    assert values["qfund_job_wait_seconds_sum", "plan", "done"] == 2
    assert values["qfund_job_run_seconds_sum", "plan", "done"] == 5
    assert values["qfund_results_found_total", "store"] >= 3
    assert values[("process_resident_memory_bytes",)] > 10**7
    real.close()


@pytest.mark.parametrize("path", ["/metrics", "/_stcore/metrics"])
def test_metrics_are_the_operators(client: TestClient, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def code(at: TestClient, **headers: str) -> int:
        return at.get(path, headers=headers).status_code

    there = 200 if path == "/metrics" else 404  # Streamlit's has no server here
    monkeypatch.setattr(metrics, "_text", lambda: b"")
    assert code(client) == there
    assert code(_app("10.0.0.9")) == 404
    assert code(client, **{"x-forwarded-for": "10.0.0.9"}) == 404 == code(client, forwarded="for=10.0.0.9")
    assert code(client, host="192.168.1.7:8501") == 404
    monkeypatch.setenv("QFUND_PUBLIC", "1")
    assert code(client) == 404, "behind a proxy everybody comes from here"
    monkeypatch.setenv("QFUND_METRICS_TOKEN", "secret")
    for given, wanted in (("Bearer secret", there), ("Bearer secre", 404), ("secret", 404), ("", 404)):
        assert code(_app("10.0.0.9"), authorization=given) == wanted
