"""The page Saved without a browser."""

from dataclasses import replace

import pytest

from qfund.core.errors import StoreError
from qfund.core.estimate import Estimate
from qfund.engine import key_of
from qfund.engine.store import Store
from qfund.features.compare.link import Given
from qfund.features.compare.request import examples
from qfund.features.compare.request.link import to_query
from qfund.features.compare.request.report import to_json
from qfund.features.compare.request.spec import Spec
from qfund.ui.server import login, private
from tests.features.compare.pages import COMPARE, FULL, texts
from tests.features.compare.reports import make_report
from tests.ui.pages import Open

SAVED = "pages/saved.py"


def test_an_empty_list_invites(opened: Open) -> None:
    at = opened(page=SAVED)
    assert "Nothing saved yet" in texts(at)
    assert at.button


def test_saved_comparisons_are_listed_and_deleted_after_asking(opened: Open, store: Store) -> None:
    key = key_of(FULL)
    store.put(COMPARE, key, make_report(FULL))
    at = opened(page=SAVED)
    assert "BF16 against FP32 and INT8 weight-only" in texts(at)
    assert "own text" in texts(at)
    at.button(key=f"delete_{key}").click().run()
    assert len(store.listed(COMPARE)) == 1, "asks first"
    assert at.button(key="confirm_delete")


def test_strangers_neither_delete_nor_read_what_others_wrote(
    opened: Open, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QFUND_PUBLIC", "1")
    store.put(COMPARE, key_of(FULL), make_report(FULL))
    store.put(COMPARE, "other", make_report(Spec("dummy")))
    at = opened(page=SAVED)
    keys = [button.key for button in at.button]
    assert keys == ["open_other"]
    assert "own text" not in texts(at)
    store.delete("other")
    assert "Those of a visitor's own text are not listed" in texts(opened(page=SAVED))


def test_who_is_signed_in_sees_and_deletes_what_is_theirs_also_in_public(
    opened: Open, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QFUND_PUBLIC", "1")
    monkeypatch.setattr(login, "configured", lambda: True)
    monkeypatch.setattr(login, "user", lambda: "a" * 32)
    other = replace(FULL, text="of somebody else")
    for spec, owner in ((FULL, "a" * 32), (other, "b" * 32)):
        store.put(COMPARE, key_of(spec), make_report(spec))
        private.claim(store, key_of(spec), owner)
    at = opened(page=SAVED)
    assert "only you" in texts(at) and "of somebody else" not in texts(at)
    at.button(key=f"delete_{key_of(FULL)}").click().run()
    assert at.button(key="confirm_delete") and at.button(key="sign_out")


def test_a_saved_comparison_opens_with_its_complete_link(opened: Open, store: Store) -> None:
    store.put(COMPARE, key_of(FULL), make_report(FULL))
    at = opened(page=SAVED)
    at.button(key=f"open_{key_of(FULL)}").click().run()
    assert not at.exception
    assert "dummy: BF16 against FP32 and INT8 weight-only" in texts(at)
    assert at.query_params["text"] == FULL.text
    assert at.selectbox(key="choice_tokens").value == 77


def test_a_saved_comparison_says_what_was_asked_for_besides(opened: Open, store: Store) -> None:
    store.put(COMPARE, "one", make_report(Spec("dummy", also=("head",), libraries=True)))
    assert "Quantised too: the output head · with libraries and times" in texts(opened(page=SAVED))
    store.put(COMPARE, "one", make_report(examples.EVERY_PRECISION))
    shown, many = texts(opened(page=SAVED)), len(examples.EVERY_PRECISION.precisions)
    assert f"FP32 against {many} precisions" in shown and f"and {many - 6} more" in shown


def test_a_saved_list_that_cannot_be_read_says_why(opened: Open, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(kind: object, limit: int = 200) -> list[object]:
        raise StoreError("The database file is damaged.", "Move it away.")

    monkeypatch.setattr(store, "listed", refuse)
    assert "The database file is damaged" in texts(opened(page=SAVED))


def test_the_list_tells_what_is_not_finite_pictures_and_encoders(opened: Open, store: Store) -> None:
    report = make_report(Spec("dummy"))
    broken = replace(report.results[1], nonfinite_positions=4, fidelity={})
    encoder = replace(report.results[2], fidelity={"hidden_cosine": Estimate(0.9999999, 1e-9, 9, "")})
    pictures = replace(report.input, source="pictures", chunks=16)
    store.put(COMPARE, "pictures", replace(report, results=(report.results[0], broken, encoder), input=pictures))
    store.put(COMPARE, "short", make_report(replace(FULL, text="a short one")))
    shown = texts(opened(page=SAVED))
    assert "not finite at 4 positions" in shown
    assert "16 pictures" in shown and "hidden-state cosine 0.9999999" in shown
    assert "own text “a short one”" in shown


def test_a_text_that_no_link_can_hold_opens_from_the_list(opened: Open, store: Store) -> None:
    spec = replace(FULL, text="0 1 " * 2000)
    store.put(COMPARE, key_of(spec), make_report(spec))
    at = opened(page=SAVED)
    at.button(key=f"open_{key_of(spec)}").click().run()
    assert "dummy: BF16 against FP32 and INT8 weight-only" in texts(at)
    assert "text" not in at.query_params and at.selectbox(key="choice_model").value == "dummy"
    assert "too long for a link" in texts(at)


def test_a_report_from_a_file_opens_for_this_visitor_alone(opened: Open, store: Store) -> None:
    at = opened(page=SAVED)
    at.file_uploader(key="given_file").set_value([("of *mine*.json", to_json(make_report(FULL)), "application/json")])
    at.run()
    assert not at.exception
    assert "dummy: BF16 against FP32 and INT8 weight-only" in texts(at)
    assert "Opened from the file of *mine*.json: not measured on this server" in texts(at)
    assert not store.listed(COMPARE) and "Not measured yet" in texts(opened(to_query(FULL)))


def test_a_report_from_a_file_can_be_put_away(opened: Open) -> None:
    at = opened(to_query(FULL), given_report=Given("a.json", "0" * 32, make_report(FULL)))
    assert "Opened from the file a.json" in texts(at)
    at.button(key="put_away").click().run()
    assert "Opened from" not in texts(at) and "Not measured yet" in texts(at)


@pytest.mark.parametrize(
    ("document", "said"),
    [
        (b"{", "This is no report of qfund"),
        (b"\xff\x00", "This is no report of qfund"),
        (b'{"schema": 1}', "cannot be read by this version"),
        (to_json(replace(make_report(FULL), spec=replace(FULL, max_tokens=0))), "max_tokens is 0"),
    ],
)
def test_a_file_that_is_no_report_says_so(opened: Open, document: bytes, said: str) -> None:
    at = opened(page=SAVED)
    at.file_uploader(key="given_file").set_value([("a.json", document, "application/json")]).run()
    assert not at.exception and said in texts(at)
