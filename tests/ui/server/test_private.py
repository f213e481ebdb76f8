"""Results of what somebody gave, where visitors sign in: whose they are, and who sees them."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qfund.core.errors import QueueFull
from qfund.engine import key_of, upkeep
from qfund.engine.job import Visitor
from qfund.engine.kinds import KINDS
from qfund.engine.store import Store
from qfund.features.compare.request.spec import Spec
from qfund.ui import services
from qfund.ui.server import login, private
from tests.features.compare.reports import make_report
from tests.ui import pages

COMPARE = KINDS["compare"]
OWN, USUAL = Spec("dummy", text="mine"), Spec("dummy")
KEY = key_of(OWN)
ANNA, BERT, NOBODY = "a" * 32, "b" * 32, private.ANYBODY


class Jobs:
    """Remembers who asked."""

    def __init__(self) -> None:
        self.asked: list[Visitor] = []

    def submit(self, request: Spec, visitor: Visitor) -> None:
        self.asked.append(visitor)

    def get(self, key: str, visitor: Visitor | None = None) -> None: ...


@pytest.fixture
def as_(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[[str], Store]]:
    """Lets somebody be signed in; gives the store."""
    store, jobs = pages.with_store(tmp_path, monkeypatch), Jobs()
    monkeypatch.setattr(login, "configured", lambda: True)
    monkeypatch.setattr(services, "every_job", lambda: jobs)

    def become(who: str) -> Store:
        monkeypatch.setattr(login, "user", lambda: who)
        return store

    with pages.server(monkeypatch):
        yield become


def ask(who: str, as_: Callable[[str], Store], request: Spec = OWN) -> None:
    """As somebody who presses Compare, and is served."""
    store = as_(who)
    services.jobs().submit(request)
    store.put(COMPARE, key_of(request), make_report(request))


def sees(who: str, as_: Callable[[str], Store], request: Spec = OWN) -> tuple[bool, bool, bool]:
    """Whether by its link, by its key, and in the list."""
    as_(who)
    services.results().forget(key_of(request))
    linked, keyed = services.look_up(request).result, services.stored("compare", key_of(request))
    return linked is not None, keyed is not None, key_of(request) in {row.key for row in services.listed("compare")}


ALL, NONE = (True, True, True), (False, False, False)


def test_what_one_asked_for_is_theirs_until_another_asks_for_the_very_same(as_: Callable[[str], Store]) -> None:
    ask(ANNA, as_)
    assert (sees(ANNA, as_), sees(BERT, as_), sees(NOBODY, as_)) == (ALL, NONE, NONE)
    assert services.mine([KEY]) == frozenset() and as_(ANNA) and services.mine([KEY]) == {KEY}
    ask(BERT, as_)
    assert (sees(ANNA, as_), sees(BERT, as_), sees(NOBODY, as_)) == (ALL, ALL, NONE)
    ask(NOBODY, as_)
    assert sees(NOBODY, as_) == ALL


def test_a_held_result_is_no_way_around(as_: Callable[[str], Store]) -> None:
    ask(ANNA, as_)
    assert services.look_up(OWN).result is not None and services.results().get(KEY) is not None
    as_(BERT)
    assert services.look_up(OWN).result is None and services.stored("compare", KEY) is None
    assert services.jobs().get(KEY) is None
    services.delete(KEY)
    assert sees(ANNA, as_) == ALL
    services.delete(KEY)
    assert sees(ANNA, as_) == NONE


def test_what_was_known_before_anybody_signed_in_for_it_stays_everybodys(as_: Callable[[str], Store]) -> None:
    as_(NOBODY).put(COMPARE, KEY, make_report(OWN))
    assert sees(BERT, as_) == ALL
    ask(ANNA, as_)
    assert sees(BERT, as_) == ALL and sees(NOBODY, as_) == ALL


def test_in_public_own_texts_are_listed_for_their_owners_alone(
    as_: Callable[[str], Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QFUND_PUBLIC", "1")
    ask(ANNA, as_)
    ask(NOBODY, as_, Spec("dummy", text="a stranger's"))
    as_(ANNA)
    assert [row.key for row in services.listed("compare")] == [KEY]
    as_(NOBODY)
    assert services.listed("compare") == []
    ask(ANNA, as_, USUAL)
    assert sees(NOBODY, as_, USUAL) == ALL, "a model's own text is nobody's"


def test_programs_are_nobody(as_: Callable[[str], Store]) -> None:
    ask(ANNA, as_)
    token = services.ASKING.set(Visitor("program"))
    try:
        assert services.owner() == NOBODY and services.stored("compare", KEY) is None
    finally:
        services.ASKING.reset(token)


def test_private_stays_private_when_nobody_can_sign_in_any_more(
    as_: Callable[[str], Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    ask(ANNA, as_)
    monkeypatch.setattr(login, "configured", lambda: False)
    assert sees(NOBODY, as_) == NONE


def test_a_copy_keeps_owners_and_what_is_deleted_has_none(as_: Callable[[str], Store], tmp_path: Path) -> None:
    ask(ANNA, as_)
    store, target = as_(ANNA), Store(f"sqlite:///{tmp_path}/copy.db")
    upkeep.copy(store, target)
    assert private.owners(target, [KEY]) == {KEY: {ANNA}} == private.owners(store, [KEY])
    store.delete(KEY)
    assert private.owners(store, [KEY]) == {}


def test_no_owners_are_written_where_nobody_signs_in(
    as_: Callable[[str], Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(login, "configured", lambda: False)
    ask(NOBODY, as_)
    assert private.owners(as_(NOBODY), [KEY]) == {} and sees(NOBODY, as_) == ALL


@given(st.lists(st.sampled_from((ANNA, BERT, NOBODY)), min_size=1, max_size=3), st.sampled_from((ANNA, BERT, NOBODY)))
def test_who_asked_reads_and_nobody_else(asked: list[str], reader: str) -> None:
    assert private.reads(frozenset(asked), reader) == (reader in asked or NOBODY in asked)


def test_a_full_queue_is_told(as_: Callable[[str], Store], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(request: Spec, visitor: Visitor) -> None:
        raise QueueFull("Too many wait.", "Wait.")

    as_(ANNA)
    monkeypatch.setattr(services.every_job(), "submit", refuse)
    with pytest.raises(QueueFull):
        services.jobs().submit(OWN)
