"""Results that ship: each page finds what it opens on, and nothing is taken for what it is not."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from qfund.checkpoints import catalog, identity
from qfund.checkpoints.catalog import CATALOG
from qfund.core.errors import InvalidSpec, UnknownName
from qfund.core.estimate import Estimate
from qfund.core.request import Request
from qfund.engine import key_of, shipped
from qfund.engine.kinds import KINDS
from qfund.features.captions import link as captions_link
from qfund.features.captions.request import CaptionRequest
from qfund.features.compare.request.examples import EVERY_PRECISION, EXAMPLE
from qfund.features.compare.request.report import SCHEMA, LibraryRun, Report
from qfund.features.compare.request.spec import Spec
from qfund.features.lesson.request.notebook import Notebook
from qfund.features.lesson.request.questions import FEW, MANY, Asked
from qfund.features.memory import link as memory_link
from qfund.features.memory.request.plan import Plan, PlanRequest
from qfund.features.outputs import link
from qfund.features.outputs.request import embeddings, generation
from qfund.features.outputs.request.embeddings import EmbeddingsRequest
from qfund.ui import services
from tests.engine.shipping import ships
from tests.features.compare.reports import make_report
from training import measured

EVERYTHING = list(measured.everything())
LESSON = Asked("dummy").lesson
MOST = 3_600_000  # bytes of everything together


@pytest.mark.parametrize("each", EVERYTHING, ids=lambda each: each.label)
def test_what_ships_is_of_these_weights_and_this_version(each: measured.Shipped) -> None:
    """Fails while models/<name>/measured is out of date: run python -m training.measured."""
    found = ships(each.request, whole=each.whole)
    if not isinstance(found, Plan):  # which says no versions: nothing was run
        assert found.environment.model_id == identity.content_id(CATALOG[each.request.model].folder)
        assert found.environment.versions and found.environment.python and found.environment.cpu


def test_lines_of_all_comparisons_that_ship() -> None:
    lines = {line.key: line for line in shipped.listed(KINDS["compare"])}
    asked = [each.request for each in EVERYTHING if isinstance(each.request, Spec)]
    assert lines.keys() == {key_of(request) for request in asked}
    for request in asked:
        line = lines[key_of(request)]
        assert (line.model, line.precisions) == (request.model, request.precisions)
        assert line.numbers is not None and len(line.numbers.results) == len(line.candidates)


def test_nothing_else_ships() -> None:
    there = {path for entry in CATALOG.values() for path in (entry.folder / shipped.FOLDER).iterdir()}
    assert there == {shipped.place(each.request, each.name) for each in EVERYTHING}
    assert sum(path.stat().st_size for path in there) < MOST


@pytest.mark.parametrize(
    "request_",
    [
        EXAMPLE,
        link.Asked().request,
        link.Asked("classes").request,
        link.Asked("embeddings").request,
        captions_link.Asked().request,
        memory_link.Asked().load_peaks("bf16"),
        *(request for model in CATALOG for request in (Asked(model).lesson, Asked(model).comparison)),
    ],
    ids=lambda request: f"{type(request).__name__} {request.model}",
)
def test_what_a_page_opens_on_ships(request_: Request) -> None:
    ships(request_)


@pytest.mark.parametrize(
    "other",
    [
        Spec("dummy", max_tokens=3),
        replace(EXAMPLE, max_tokens=99),
        replace(generation.EXAMPLE, max_new_tokens=47),
        replace(embeddings.EXAMPLE, pooling="last"),
        EmbeddingsRequest("dummy"),
        CaptionRequest("shapes-blip", samples=3),
        CaptionRequest("dummy"),
        PlanRequest("dummy", ("bf16",)),
    ],
)
def test_nothing_ships_for_another_request(other: Request) -> None:
    assert shipped.find(other, key_of(other)) is None


def test_nothing_ships_for_other_weights_another_model_or_another_device(monkeypatch: pytest.MonkeyPatch) -> None:
    assert shipped.find(LESSON, "another key") is None
    elsewhere = Asked(str(CATALOG["dummy"].folder)).lesson
    assert shipped.find(elsewhere, key_of(elsewhere)) is None
    with pytest.raises(InvalidSpec, match="does not ship"):
        shipped.write(elsewhere, None)
    monkeypatch.setenv("QFUND_DEVICE", "cuda")
    assert shipped.find(LESSON, key_of(LESSON)) is None, "measured on a CPU"


def test_another_byte_in_the_weights_and_nothing_ships(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    shutil.copytree(CATALOG["dummy"].folder, tmp_path / "dummy")
    monkeypatch.setattr(catalog, "MODELS", tmp_path)
    assert shipped.find(LESSON, key_of(LESSON)) is not None, "a copy is the same model"
    weights = tmp_path / "dummy/model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert shipped.find(LESSON, key_of(LESSON)) is None


def test_what_ships_is_no_part_of_the_model(tmp_path: Path) -> None:
    shutil.copytree(CATALOG["dummy"].folder, tmp_path / "dummy")
    shutil.rmtree(tmp_path / "dummy" / shipped.FOLDER)
    assert identity.content_id(tmp_path / "dummy") == identity.content_id(CATALOG["dummy"].folder)


Edit = Callable[[bytes], bytes]


@pytest.mark.parametrize(
    "edit",
    [
        lambda whole: whole[: len(whole) // 2],
        lambda whole: whole[:-1],
        lambda whole: whole[:20],
        lambda whole: b"",
        lambda whole: whole.replace(b'"schema":1', b'"schema":999'),
        lambda whole: whole.replace(b'"kind":"lesson"', b'"kind":"plan"'),
        lambda whole: whole.replace(b'"whole":true', b'"whole":false'),
        lambda whole: whole.replace(b'"result":{', b'"result":{"cast":3,'),
    ],
)
def test_a_damaged_or_outdated_file_is_passed_over(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, edit: Edit) -> None:
    path, key = shipped.place(LESSON), key_of(LESSON)
    whole = path.read_bytes()
    folder = tmp_path / "dummy" / shipped.FOLDER
    folder.mkdir(parents=True)
    monkeypatch.setattr(catalog, "MODELS", tmp_path)
    edited = edit(whole)
    assert edited != whole
    (folder / path.name).write_bytes(edited)
    assert shipped.find(LESSON, key) is None
    (folder / "lesson-whole.json").write_bytes(whole)
    assert isinstance(shipped.find(LESSON, key), Notebook), "one that is good is found beside it"


def test_a_report_of_another_schema_is_passed_over(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    spec = Spec("dummy", max_tokens=3)
    key = key_of(spec)
    shutil.copytree(CATALOG["dummy"].folder, tmp_path / "dummy")
    monkeypatch.setattr(catalog, "MODELS", tmp_path)
    shipped.write(spec, make_report(spec), "test")
    assert shipped.find(spec, key) == make_report(spec)
    monkeypatch.setitem(KINDS, "compare", replace(KINDS["compare"], schema=SCHEMA + 1))
    assert shipped.find(spec, key) is None


def test_numbers_do_not_stand_for_a_whole_comparison() -> None:
    """A page that draws tokens and tensors must not open on one that lacks them."""
    for spec in (EVERY_PRECISION, Asked().timing(MANY), Asked("dummy").timing(FEW)):
        key = key_of(spec)
        assert shipped.find(spec, key) is None and services.look_up(spec).result is None
        found: Report = ships(spec, whole=False)
        assert found.tokens is None and not any(row.tensors for row in (found.reference, *found.results))
        assert [row.precision for row in found.results] == list(spec.precisions)
        assert services.look_up(spec, whole=False).result == found and services.look_up(spec).result is None, (
            "not even once held"
        )
    assert services.look_up(EXAMPLE, whole=False) == services.look_up(EXAMPLE)


def test_only_the_file_that_is_asked_for_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    starting = shipped._starting

    def counted(path: Path, heads: list[bytes]) -> bytes | None:
        document = starting(path, heads)
        if document is not None:
            read.append(len(document))
        return document

    monkeypatch.setattr(shipped, "_starting", counted)
    ships(EXAMPLE)
    assert read == [shipped.place(EXAMPLE).stat().st_size]


def test_what_is_measured_again_is_chosen_by_name_and_times_come_last() -> None:
    assert measured.chosen([]) != EVERYTHING and {each.label for each in measured.chosen([])} == {
        each.label for each in EVERYTHING
    }
    assert [each.timed for each in measured.chosen(["pydoc-llama"])] == sorted(
        each.timed for each in measured.chosen(["pydoc-llama"])
    )
    assert [each.label for each in measured.chosen(["dummy/compare-few", "dummy/lesson", "dummy/lesson"])] == [
        "dummy/lesson",
        "dummy/compare-few",
    ]
    with pytest.raises(UnknownName, match="Did you mean: dummy/lesson"):
        measured.chosen(["dummy/leson"])


def test_the_calmest_run_is_kept_and_numbers_are_what_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    whole, calm, busy = make_report(), Estimate(0.9, 0.01, 20, ""), Estimate(0.9, 0.2, 20, "")
    run = LibraryRun("torchao", "0.17.0", "call", 1, 0, 0, latency=busy)
    first, *others = whole.results
    quiet = replace(whole, results=(replace(first, latency=calm), *others))
    noisy = replace(whole, results=(replace(first, latency=calm, libraries=(run,)), *others))
    assert 0 < measured.scatter(quiet) < measured.scatter(noisy)
    runs = iter((noisy, quiet, noisy))
    monkeypatch.setattr(measured, "measure", lambda spec: next(runs))
    assert measured.calmest(whole.spec) == quiet
    kept = measured.numbers(whole)
    assert kept.tokens is None and [row.fidelity for row in kept.results] == [row.fidelity for row in whole.results]
    assert [row.latency for row in kept.results] == [row.latency for row in whole.results]
    assert len(msgspec.json.encode(kept)) < len(msgspec.json.encode(whole))
