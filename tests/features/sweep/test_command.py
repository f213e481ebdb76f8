"""``qfund sweep`` and ``qfund.sweep``: planned, measured as far as it is not, one bad model ending no other."""

import csv
import io
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import qfund
from qfund import cli
from qfund.commandline import submitting
from qfund.commandline.submitting import Submitted
from qfund.core.errors import EngineError, ModelNotFound
from qfund.core.feature import lazily
from qfund.engine import key_of
from qfund.engine.job import Job
from qfund.engine.kinds import KINDS
from qfund.engine.store import Store
from qfund.features.compare.request.spec import Spec
from tests.features.compare.reports import full_report

COMPARE = KINDS["compare"]
INT8 = Spec("dummy", precisions=("int8",), max_tokens=64)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("QFUND_DATABASE_URL", raising=False)
    monkeypatch.setenv("QFUND_HOME", str(tmp_path / "home"))
    return tmp_path


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[Spec]:
    """What was measured; nothing is, each has a report made by hand. DistilBERT cannot be read."""
    asked: list[Spec] = []

    def measure(spec: Spec, progress: Callable[[str, float], None]) -> Any:
        asked.append(spec)
        if spec.model == "docstring-vectors":
            raise ModelNotFound("It is gone.", "Look for it.")
        report = full_report(spec)
        return replace(report, input=replace(report.input, sha256=f"{hash(spec.text)}"))

    real = lazily
    monkeypatch.setattr("qfund.engine.lazily", lambda name: measure if name == COMPARE.measure else real(name))
    return asked


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        cli.main(("sweep", *arguments))
    assert isinstance(ended.value.code, int)
    return ended.value.code


def test_one_that_fails_ends_no_other_and_what_is_stored_is_not_measured_again(
    measured: list[Spec], capsys: pytest.CaptureFixture[str]
) -> None:
    models = ("nobody", "dummy", "docstring-vectors", "docstring-kinds", "--precision", "int8", "--max-tokens", "64")
    assert run(*models, "--json") == 1
    told = capsys.readouterr()
    found = json.loads(told.out)
    assert {row["model"] for row in found["lines"]} == {"dummy", "docstring-kinds"}
    assert [row["model"] for row in found["failed"]] == ["nobody", "docstring-vectors"]
    assert "2 of 4 comparisons failed" in told.err and "[2/3] docstring-vectors" in told.err
    assert [spec.model for spec in measured] == ["dummy", "docstring-vectors", "docstring-kinds"]
    assert Store().keys(COMPARE) == {row["key"] for row in found["lines"]}
    assert key_of(INT8) in Store().keys(COMPARE), "as qfund compare would have kept it"
    measured.clear()
    assert run(*models, "--csv", "--quiet") == 1
    assert [spec.model for spec in measured] == ["docstring-vectors"]
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert {row["model"] for row in rows} == {"dummy", "docstring-kinds"}
    assert {row["key"] for row in rows} == Store().keys(COMPARE)


def test_models_times_texts_each_with_the_margin_that_is_its_own(
    measured: list[Spec], capsys: pytest.CaptureFixture[str], home: Path
) -> None:
    (home / "a.txt").write_text("The first text.")
    (home / "models.yml").write_text("- dummy\n- {model: docstring-kinds, precision: int4, margin: {perplexity: 90}}\n")
    texts = ("--text", "A text.", "--text-file", str(home / "a.txt"))
    assert run(str(home / "models.yml"), "--precision", "int8", *texts, "--quiet", "--json") == 0
    lines = json.loads(capsys.readouterr().out)["lines"]
    assert [(spec.model, spec.precisions, spec.text) for spec in measured] == [
        ("dummy", ("int8",), "A text."),
        ("dummy", ("int8",), "The first text."),
        ("docstring-kinds", ("int4",), "A text."),
        ("docstring-kinds", ("int4",), "The first text."),
    ]
    assert {row["text"] for row in lines} == {"A text.", "a.txt"}
    assert {row["finding"]["margin"] for row in lines if row["model"] == "docstring-kinds"} <= {0.9, 0.02}


def test_options_ask_for_what_they_do_of_compare(measured: list[Spec]) -> None:
    from qfund.features.compare.request.spec import like_llama_cpp

    options = ("--precision", "int8", "--context", "64", "--also", "head", "--reference", "BF16", "--quiet")
    assert run("dummy", *options, "--like-llama-cpp") == 0
    with pytest.raises(SystemExit):
        cli.main(("compare", "dummy", *options, "--like-llama-cpp", "--fresh"))
    asked = Spec("dummy", "bf16", ("int8",), context=64, also=("head",))
    assert measured == [like_llama_cpp(asked)] * 2
    assert run("dummy", "--precision", "int8", "--max-tokens", "64", "--until-decided", "--margin-tokens", "3") == 0
    assert measured[-1] == replace(INT8, until=qfund.Margin(tokens=0.03))


def test_a_plan_measures_nothing(measured: list[Spec], capsys: pytest.CaptureFixture[str]) -> None:
    Store().put(COMPARE, key_of(INT8), full_report(INT8))
    models = ("dummy", "docstring-kinds", "nobody", "--precision", "int8", "--max-tokens", "64", "--plan")
    assert run(*models) == 0
    said = capsys.readouterr().out
    assert said.startswith("3 comparisons: 1 stored, 1 to measure (about ") and "1 cannot be done" in said
    assert "nobody: Unknown model 'nobody'" in said
    assert run(*models, "--json") == 0
    rows = json.loads(capsys.readouterr().out)
    assert [(row["stored"], bool(row["why"])) for row in rows] == [(True, False), (False, False), (False, True)]
    assert rows[0]["seconds"] == 0 and rows[1]["seconds"] > 0 and rows[1]["bytes"] == 4 * 760_198
    assert not measured


def test_ctrl_c_keeps_what_is_done(
    measured: list[Spec], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(spec: Spec, *_: object) -> Any:
        if spec.model == "docstring-kinds":
            raise KeyboardInterrupt
        return full_report(spec)

    real = lazily
    monkeypatch.setattr("qfund.engine.lazily", lambda name: stop if name == COMPARE.measure else real(name))
    assert run("dummy", "docstring-kinds", "pydoc-llama", "--precision", "int8", "--markdown") == 130
    told = capsys.readouterr()
    assert "| dummy |" in told.out and "docstring-kinds" not in told.out
    assert "the same command goes on from there" in told.err
    assert len(Store().keys(COMPARE)) == 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("dummy", "--engine", "worker", "--no-store"), "is kept in the store"),
        (("dummy", "--engine", "cloud"), "Unknown engine 'cloud'"),
        (("dummy", "--json", "--csv"), "not allowed with"),
        (("none.yaml",), "no such file"),
        (("dummy", "--precision", "bf61"), "Unknown precision 'bf61'. Did you mean: bf16"),
    ],
)
def test_what_is_wrong_is_said(options: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*options) in (1, 2)
    told = capsys.readouterr()
    assert said in told.err + told.out and "Traceback" not in told.err


def test_python_gives_the_same(measured: list[Spec], home: Path) -> None:
    found = qfund.sweep(["nobody", {"model": "dummy", "max_tokens": 64}], "int8", margin=qfund.Margin(kl=0.5))
    assert [row.key for row in found.lines] == [key_of(INT8)] and found.failed[0].model == "nobody"
    measured.clear()
    (home / "models.yaml").write_text("precision: int8\nmax_tokens: 64\nmodels: [dummy]")
    assert qfund.sweep(home / "models.yaml").lines[0].key == key_of(INT8)
    assert not measured, "it is in the store"
    assert qfund.sweep("dummy", ["int8"], max_tokens=64, store=False).lines and measured == [INT8]


class _Engine:
    """Two jobs: one is done after it was looked at twice, the other fails."""

    def __init__(self) -> None:
        self.moments = {
            "a": self._a(),
            "b": iter([Job("b", INT8, state="failed", error=EngineError("Out.", "Again."))] * 9),
        }
        self.cancelled: list[str] = []

    def _a(self) -> Iterator[Job]:
        yield Job("a", INT8)
        yield Job("a", INT8, state="running", phase="reading")
        while True:
            yield Job("a", INT8, state="done", result="report")

    def submit(self, request: Spec) -> None: ...

    def wait(self, key: str, timeout: float) -> None:
        """Of a job that is at work on another server nothing is known here but what is written down."""

    def get(self, key: str) -> Job | None:
        return next(self.moments[key])

    def cancel(self, key: str) -> None:
        self.cancelled.append(key)


def test_jobs_of_an_engine_are_followed_and_failures_told(capsys: pytest.CaptureFixture[str]) -> None:
    jobs = _Engine()
    followed = Submitted(jobs, quiet=False)
    for key in "ab":
        followed.submit(key, INT8, f"model {key}")
    assert followed.result("a") == "report"
    assert "model a:   0% reading" in capsys.readouterr().err
    with pytest.raises(EngineError, match="Out"):
        followed.result("b")
    followed.cancel()
    assert jobs.cancelled == ["a", "b"]


def test_the_engine_is_a_cluster_only_where_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QFUND_ENGINE", "ray")
    with submitting.submitting("worker", 3, quiet=True):
        assert "QFUND_ENGINE" not in os.environ
