"""Turns over all servers of one database, and who does what waits at another one."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from qfund.core.errors import EngineError
from qfund.engine.job import Job, Record, Visitor
from qfund.engine.shared.claims import Claims, address_of
from qfund.engine.shared.ledger import Ledger
from qfund.engine.store import Store
from tests.engine.databases import KINDS, url_of
from tests.engine.test_engine import Bench, finished, running, spec
from tests.engine.test_shared import ANNE, BOB, server, shared, state
from tests.patience import until

__all__ = ["shared"]  # a fixture

CLEO = Visitor("cleo", BOB.address)  # at Bob's network


@pytest.fixture(params=KINDS)
def servers(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Ledger, Ledger]]:
    url = url_of(request.param, tmp_path / "qfund.db")
    made = Ledger(Store(url)), Ledger(Store(url))
    yield made
    for each in made:
        each.close()


def ask(ledger: Ledger, name: str, visitor: Visitor, submitted: float) -> Record:
    record = Record(Job(name, spec(name), submitted=submitted), visitor)
    assert ledger.claim(record) is None
    return record


def names(ledger: Ledger) -> list[str]:
    return [job.key for job, _, _ in ledger.in_turn()]


def test_visitors_and_addresses_take_turns_over_all_servers(servers: tuple[Ledger, Ledger]) -> None:
    one, two = servers
    for number, (ledger, name, visitor) in enumerate(
        [(one, "a1", ANNE), (one, "a2", ANNE), (two, "a3", ANNE), (two, "b1", BOB), (one, "b2", BOB), (one, "c1", CLEO)]
    ):
        ask(ledger, name, visitor, number)
    order: list[str] = []
    while listed := one.in_turn():
        assert names(two) == [job.key for job, _, _ in listed]
        job, _, at = listed[0]
        assert (two if len(order) % 2 else one).begin(job.key, at) is True
        assert one.begin(job.key, at) is False  # once
        order.append(job.key)
    # Anne, then Bob's network, and in it Cleo after Bob.
    assert order == ["a1", "b1", "a2", "c1", "a3", "b2"]


def test_a_server_takes_what_waits_elsewhere_unless_others_wait_for_it_there_or_it_is_another_model_here(
    servers: tuple[Ledger, Ledger],
) -> None:
    one, two = servers
    joined, strange, free = (ask(one, name, ANNE, at) for at, name in enumerate(("joined", "strange", "free")))
    joined.join(BOB)
    one.write(joined)
    looked: list[str] = []

    def unlike(job: Job) -> EngineError | None:
        looked.append(job.key)
        return EngineError("Other files.") if job.key == "strange" else None

    claims = Claims(two, unlike)
    assert claims.look([]) == ([], True)
    record, gone = claims.take({})
    assert record is not None and (record.job.key, record.owners[0].id, gone) == ("free", ANNE.id, [])
    assert claims.look([]) == ([], False) and looked.count("strange") == 1
    mine = Claims(one, unlike)
    assert mine.look([joined, strange, free]) == ([free], False)
    assert mine.places == {"joined": 1, "strange": 2}
    assert mine.take({"free": free}) == (None, [free])  # though it still waits here for all that this one knew


def test_an_address_is_not_kept() -> None:
    assert len(address_of(ANNE)) == 4 and address_of(BOB) == address_of(CLEO) != address_of(ANNE)
    assert address_of(Visitor("x")) != address_of(Visitor("y"))


def test_an_idle_server_does_what_waits_at_a_busy_one_and_whoever_asked_for_it_sees_that(shared: Bench) -> None:
    one, two = server(shared), server(shared)
    long = one.submit(spec("wait"), ANNE)
    running(one, long)
    after = one.submit(spec("after"), ANNE)
    assert one.wait(after.key, 60.0) is None  # done, and not by this one
    assert state(shared, after.key) == "done" and two.get(after.key) is not None
    assert (still := one.get(long.key)) is not None and still.state == "running"
    shared.open_gate()
    assert finished(one, long).state == "done"


def test_a_place_is_counted_over_all_servers(shared: Bench) -> None:
    one, two = server(shared), server(shared)
    for number, jobs in enumerate((one, two)):  # both are busy
        running(jobs, jobs.submit(spec("wait", 1 + number), Visitor(f"busy {number}", f"10.0.1.{number}")))
    first, second = one.submit(spec("first"), ANNE), two.submit(spec("second"), BOB)
    until(lambda: (found := two.get(second.key)) is not None and found.position == 2)
    assert (seen := one.get(first.key)) is not None and seen.position == 1
    assert (other := two.get(first.key)) is not None and (other.state, other.position) == ("queued", 1)
