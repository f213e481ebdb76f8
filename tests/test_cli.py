import io
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

import qfund
from qfund import cli, engine
from qfund.commandline import texts as commandline_texts
from qfund.core.errors import InvalidInput, QfundError
from qfund.core.estimate import Estimate
from qfund.core.metrics.table import METRICS
from qfund.features.compare.request import report
from qfund.features.compare.request.spec import MAX_TOKENS, Spec, checked
from qfund.inputs.texts import SECOND_HALF, NamedText
from qfund.precisions.table import PRECISIONS
from tests.features.compare.reports import full_report, make_report

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("QFUND_DATABASE_URL", raising=False)
    monkeypatch.setenv("QFUND_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    code = ended.value.code
    assert isinstance(code, int)
    return code


def test_json_is_one_document_and_nothing_else() -> None:
    """In a real process: whatever libraries print, standard output holds the document alone."""
    command = [sys.executable, "-m", "qfund", "compare", "dummy", "--precision", "int8", "bf16", "--json", "--no-store"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    document = json.loads(done.stdout)
    assert {"schema", "spec", "environment", "results"} <= set(document)
    assert document["spec"]["model"] == "dummy"
    assert {"versions", "python", "cpu", "threads", "model_id", "revision"} <= set(document["environment"])
    assert [row["precision"] for row in document["results"]] == ["bf16", "int8"]
    for row in document["results"]:
        assert row["footprint_bytes"] == row["predicted_bytes"] == sum(d["bytes"] for d in row["dtypes"].values())
        assert sum(d["parameters"] for d in row["dtypes"].values()) == 30
        wanted = {"mean_abs_logit_diff", "max_abs_logit_diff", "kl_mean", "top1_agreement", "perplexity"}
        assert wanted | {"perplexity_ratio"} <= set(row["fidelity"])
        assert all(
            set(estimate) == {"value", "se", "n", "unit", "low", "high", "blocks"}
            for estimate in row["fidelity"].values()
        )
    assert "running batch 1" in done.stderr
    assert report.from_json(done.stdout.encode()).spec == Spec("dummy", precisions=("bf16", "int8"))


def test_a_stored_result_is_found_again_unless_fresh(capsys: pytest.CaptureFixture[str], home: Path) -> None:
    arguments = ("compare", "dummy", "--precision", "bf16", "--json")
    assert run(*arguments) == 0
    first = capsys.readouterr()
    assert run(*arguments) == 0
    again = capsys.readouterr()
    assert again.out == first.out and "running" not in again.err
    assert run(*arguments, "--fresh") == 0
    assert "running" in capsys.readouterr().err
    assert (home / "qfund.db").is_file()


def test_no_store_leaves_nothing(home: Path) -> None:
    assert run("compare", "dummy", "--precision", "bf16", "--no-store") == 0
    assert not home.exists()


def test_a_disk_that_refuses_does_not_lose_the_result(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("QFUND_HOME", str(tmp_path / "file" / "below"))
    code = run("compare", "dummy", "--precision", "bf16", "--json")
    printed = capsys.readouterr()
    assert code == 0
    assert json.loads(printed.out)["results"]
    assert "not saved" in printed.err


def test_words_and_tables_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("compare", "dummy", "--no-store", "--all") == 0
    printed = capsys.readouterr().out
    assert "BF16: half the memory (60 B instead of 120 B)" in printed
    assert METRICS["kl_mean"].label in printed


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("compare", "pydoc-lama"), 2, "Did you mean: pydoc-llama?"),
        (("compare", "dummy", "--precision", "bf17"), 2, "Did you mean: bf16?"),
        (("compare", "dummy", "--reference", "fp33"), 2, "Did you mean: fp32?"),
        (("compare", "dummy", "--precision", "tf32"), 2, "TF32 needs an NVIDIA GPU"),
        (("compare", "dummy", "--precision", "tf32"), 2, "Choose another precision"),
        (("compare", "dummy", "--also", "heads"), 2, "Did you mean: head?"),
        (("compare", "dummy", "--max-tokens", "0"), 2, "max_tokens is 0"),
        (("compare", "dummy", "--max-tokens", "x"), 2, "no whole number such as 8192 or 8k"),
        (("compare", "dummy", "--context", "64"), 2, "at most 2 tokens"),
        (("compare", "dummy", "--text", ""), 2, "The text is empty"),
        (("compare", "dummy", "--text", " \n"), 2, "The text is empty"),
        (("compare", "dummy", "--text", "1"), 2, "1 token long"),
        (("compare", "dummy", "--text", "1 0", "--text-file", "x"), 2, "not allowed with"),
        (("compare", "dummy", "--text-file", "/no/such/file"), 2, "/no/such/file cannot be read"),
        (("compare", "/no/such/folder"), 1, "There is no folder /no/such/folder"),
        (("compare", "dummy", "--revision", "x"), 2, "no revisions"),
        (("compare",), 2, "required: model"),
        (("ls", "colours"), 2, "Unknown table 'colours'"),
    ],
)
def test_wrong_usage(arguments: tuple[str, ...], code: int, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*arguments) == code
    printed = capsys.readouterr()
    assert said in printed.err
    assert "Traceback" not in printed.err and printed.out == ""


def test_a_text_file_that_is_not_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "image.png").write_bytes(b"\x89PNG\xff\xfe")
    assert run("compare", "dummy", "--text-file", str(tmp_path / "image.png")) == 2
    assert "UTF-8" in capsys.readouterr().err


def test_a_long_text_is_read_in_chunks_and_that_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "long.txt").write_text("0 1 1 0 1\n" * 3)
    arguments = ("compare", "dummy", "--precision", "bf16", "--no-store", "--text-file", str(tmp_path / "long.txt"))
    assert run(*arguments) == 0
    assert "8 chunks of at most 2 tokens" in capsys.readouterr().out


class _Asked(QfundError):
    """In place of a measurement."""


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Spec]:
    """What a command line asks for."""
    seen: list[Spec] = []

    def compute(spec: Spec, **_: object) -> None:
        seen.append(checked(spec))
        raise _Asked("Enough.")

    def ask(*arguments: str) -> Spec:
        monkeypatch.setattr(engine, "compute", compute)
        assert run("compare", "dummy", "--precision", "bf16", *arguments) == 1
        return seen.pop()

    return ask


def test_a_folder_is_read_file_by_file(tmp_path: Path, asked: Callable[..., Spec]) -> None:
    for name, text in {"b.txt": "B.", "a.md": "Ä.", "inner/c.txt": "", ".hidden": "x", ".git/d": "y"}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text, "utf-8")
    spec = asked("--text-folder", str(tmp_path))
    assert spec.texts == (NamedText("a.md", "Ä."), NamedText("b.txt", "B."), NamedText("inner/c.txt", ""))
    assert spec.text is None and spec.max_tokens == 16_384


def test_strides_and_scored_positions(asked: Callable[..., Spec]) -> None:
    assert asked() == Spec("dummy", precisions=("bf16",))
    assert asked("--stride", "3", "--context", "5").stride == 3
    assert asked("--scoring", "Second-Half").scoring == SECOND_HALF
    like = asked("--like-llama-cpp", "--context", "64")
    assert like == Spec("dummy", precisions=("bf16",), max_tokens=MAX_TOKENS, context=64, scoring=SECOND_HALF)
    assert asked("--like-llama-cpp", "--max-tokens", "99").max_tokens == 99


@pytest.mark.parametrize(
    ("files", "arguments", "said"),
    [
        ({}, ("--text-folder", "{}"), "holds no text"),
        ({".hidden": b"x"}, ("--text-folder", "{}"), "holds no text"),
        ({"a.txt": b"x", "b.png": b"\x89PNG\xff"}, ("--text-folder", "{}"), "b.png cannot be read: it is no UTF-8"),
        ({}, ("--text-folder", "{}/none"), "There is no folder"),
        ({"a.txt": b"x"}, ("--text-folder", "{}", "--text", "y"), "not allowed with"),
        ({"a.txt": b"x"}, ("--text-folder", "{}"), "The text is 1 token long"),
        ({}, ("--scoring", "halves"), "Unknown way of scoring 'halves'"),
        ({}, ("--stride", "0"), "stride is 0"),
        ({}, ("--stride", "3"), "A stride of 3 skips tokens"),
        ({}, ("--like-llama-cpp", "--stride", "1"), "Choose one of them"),
        ({}, ("--like-llama-cpp",), "A context of 2 leaves no room"),
    ],
)
def test_texts_and_positions_that_cannot_be_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], files: dict[str, bytes], arguments: tuple[str, ...], said: str
) -> None:
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    assert run("compare", "dummy", "--quiet", "--no-store", *(part.format(tmp_path) for part in arguments)) == 2
    printed = capsys.readouterr()
    assert said in printed.err and printed.out == ""


def test_too_many_files_are_refused_before_they_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commandline_texts, "MAX_TEXTS", 2)
    monkeypatch.setattr(commandline_texts, "MAX_TEXT", 10)
    for number in range(2):
        (tmp_path / str(number)).write_text("x" * 20)
    assert len(commandline_texts.read_folder(tmp_path)) == 2
    (tmp_path / "0").write_text("x" * 21)
    with pytest.raises(InvalidInput, match="2 files of 41 bytes"):
        commandline_texts.read_folder(tmp_path)
    (tmp_path / "0").write_text("x")
    (tmp_path / "2").write_text("x")
    with pytest.raises(InvalidInput, match="3 files"):
        commandline_texts.read_folder(tmp_path)


def test_from_python_several_texts() -> None:
    found = qfund.compare("dummy", "fp32", texts={"b": "0 1 1 0", "a": "1 0"}, max_tokens=3)
    assert [(row.name, row.tokens, row.chunks) for row in found.input.texts] == [("a", 2, 1), ("b", 3, 2)]
    assert found.spec == Spec(
        "dummy", precisions=("fp32",), max_tokens=3, texts=(NamedText("a", "1 0"), NamedText("b", "0 1 1 0"))
    )


def test_names_in_capitals_commas_and_standard_input(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"0 1 1 0")))
    arguments = ("compare", "dummy", "--precision", "INT8,bf16", "--text-file", "-", "--json", "--no-store", "--quiet")
    assert run(*arguments) == 0
    printed = capsys.readouterr()
    found = report.from_json(printed.out.encode())
    assert found.spec.precisions == ("bf16", "int8") and found.spec.text == "0 1 1 0"
    assert printed.err == ""


def test_a_report_that_was_sent_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("compare", "dummy", "--no-store", "--json") == 0
    (tmp_path / "report.json").write_text(capsys.readouterr().out)
    assert run("show", str(tmp_path / "report.json"), "--all") == 0
    assert "BF16: half the memory (60 B instead of 120 B)" in capsys.readouterr().out
    (tmp_path / "report.json").write_text('{"schema": 99}')
    assert run("show", str(tmp_path / "report.json")) == 1
    assert "cannot be read by this version" in capsys.readouterr().err


@pytest.mark.parametrize("what", ["models", "precisions", "metrics"])
def test_ls_lists_the_table(what: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("ls", what) == 0
    names = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    models = ["pydoc-llama", "shapes-blip", "docstring-kinds", "docstring-vectors", "dummy"]
    assert names == list({"models": models, "precisions": PRECISIONS, "metrics": METRICS}[what])


def test_ls_says_what_a_weight_takes_and_what_cannot_run_here(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("ls", "precisions") == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert "INT4 g32 · 5 bits per weight · CPU, CUDA · 4-bit integers" in lines["int4"]
    assert "4.5 bits per weight" in lines["int4_bf16"]
    assert "· CUDA · not here: TF32 needs an NVIDIA GPU" in lines["tf32"]
    assert sum("not here:" in line for line in lines.values()) == 1


def test_many_candidates_are_printed_below_each_other(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = make_report(Spec("dummy", precisions=("bf16", "int8", "int4", "int3", "nf4"), libraries=True))
    document = tmp_path / "report.json"
    document.write_bytes(report.to_json(found))
    assert run("show", str(document), "--all") == 0
    printed = capsys.readouterr().out
    lines = [line for line in printed.splitlines() if line.lstrip().startswith("NF4 ") and " is " not in line]
    assert len(lines) > 1, "in parts below each other"
    assert all(len(line) <= 160 for line in lines)
    for heading in (METRICS["kl_mean"].label, METRICS["top1_agreement"].label, "Bits per quantised weight"):
        assert heading in printed
    assert "kl_mean" not in printed
    assert "Forward ÷ reference's" in printed and "not measured here" in printed


def shown(found: report.Report, folder: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """What `qfund show` prints of a report."""
    (folder / "shown.json").write_bytes(report.to_json(found))
    assert run("show", str(folder / "shown.json"), "--all") == 0
    return capsys.readouterr().out


def test_what_was_quantized_and_how_stands_below_its_verdict(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = make_report(Spec("dummy", precisions=("fp16", "mxfp4"), libraries=True))
    fp16 = replace(found.results[0], range=report.Range(65504.0, 67.125, "model.layers.0", 976.0))
    run_ = report.LibraryRun("torchao", "1", "A()", 9, latency=Estimate(0.5, 0.01, 9, "×"), note="Unpacked.")
    mxfp4 = replace(found.results[1], note="Both were quantised.", libraries=(run_,), latency=run_.latency)
    printed = shown(replace(found, results=(fp16, mxfp4)), tmp_path, capsys)
    after_fp16, after_mxfp4 = printed[printed.index("\nFP16:") :].split("\nMXFP4:")
    assert "\n  Largest value 67.1 of 65,504 in model.layers.0.\n" in after_fp16
    for sentence in (
        "1 module was quantised; 1 stays: shares its weight with the embedding (1).",
        "Emulated here: GPUs made for it",
        "Both were quantised.",
        "MXFP4 with torchao: Unpacked.",
    ):
        assert f"\n  {sentence}" in after_mxfp4
    assert "One pass" not in printed, "a time was measured"
    assert "One pass (no benchmark)" in shown(found, tmp_path, capsys)


def test_where_nothing_could_be_compared_no_table_is_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = make_report(Spec("dummy"))
    bare = tuple(replace(result, fidelity={}, nonfinite_positions=9) for result in found.results)
    printed = shown(replace(found, results=bare), tmp_path, capsys)
    assert "No output is finite in both the reference and a candidate" in printed and "Empty" not in printed


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "cannot be read: there is no such file. Check the path."),
        (b"[1, 2]", "This is no report of qfund. Give what `qfund compare"),
        (b"not json", "This is no report of qfund."),
        (b'{"name": "x"}', "This is no report of qfund."),
        (b"\xff\xfe", "it is no UTF-8 text"),
    ],
)
def test_what_is_no_report_is_said_so(
    content: bytes | None, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if content is not None:
        (tmp_path / "file").write_bytes(content)
    assert run("show", str(tmp_path / "file")) == 2
    told = capsys.readouterr().err
    assert said in told and "Errno" not in told


@pytest.mark.parametrize(
    ("typed", "said", "listed"),
    [
        ("fp8", "Did you mean: fp8_e4m3? The closest: fp8_e4m3, fp8_e5m2, fp8_dynamic,", 10),
        ("q4_k_l", "Kinds such as q4_k_l are llama.cpp's, of GGUF files; qfund makes those that it lists.", 10),
        ("bf61", "Did you mean: bf16?", 10),
        ("zzz", "Unknown precision 'zzz'. The closest: ", 10),
    ],
)
def test_of_many_names_only_those_nearby_are_told(
    typed: str, said: str, listed: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("compare", "dummy", "--precision", typed) == 2
    told = capsys.readouterr().err
    assert said in told and told.rstrip().endswith("`qfund ls precisions` lists all.")
    names = told.partition("The closest: ")[2].partition(". `")[0].split(", ")
    assert len(names) == len(set(names)) == listed and set(names) <= set(PRECISIONS)


def test_also_and_libraries_reach_the_spec(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Spec] = []

    def remember(wanted: Spec, **_: object) -> report.Report:
        asked.append(wanted)
        return make_report(Spec("dummy"))

    monkeypatch.setattr(engine, "compute", remember)
    assert run("compare", "dummy", "--also", "HEAD,embeddings", "--libraries", "--no-store") == 0
    assert asked == [Spec("dummy", also=("head", "embeddings"), libraries=True)]


def test_a_reader_that_leaves_is_no_error() -> None:
    pipeline = f"{sys.executable} -m qfund ls metrics | head -n 1"
    done = subprocess.run(pipeline, shell=True, capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stderr == ""


def test_from_python() -> None:
    seen: list[float] = []
    found = qfund.compare("dummy", "fp32", progress=lambda phase, share: seen.append(share))
    assert found.results[0].fidelity["max_abs_logit_diff"].value == 0.0
    assert seen == sorted(seen) and seen[0] >= 0 and seen[-1] < 1
    with pytest.raises(qfund.errors.UnknownName):
        qfund.compare("dummy", ["nothing"])


def test_the_margin_is_a_choice_and_decides_without_measuring(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    document = tmp_path / "report.json"
    document.write_bytes(report.to_json(full_report()))
    assert run("show", str(document), "--all") == 0
    usual = capsys.readouterr().out
    assert "BF16 is within your margin" in usual and "noise floor" in usual
    assert run("show", str(document), "--margin-tokens", "0.1%", "--margin-perplexity", "0.5", "--all") == 0
    strict = capsys.readouterr().out
    assert "BF16 is outside your margin" in strict and "margin 0.1 %" in strict
    assert run("show", str(document), "--margin-tokens", "-1") == 2
    assert "no number of per cent from 0 to 100" in capsys.readouterr().err


def test_run_passes_the_address_on(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[list[str]] = []

    def fake(command: list[str], **_: object) -> subprocess.CompletedProcess[bytes]:
        started.append(command)
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(subprocess, "run", fake)
    assert run("run", "--port", "9000", "--host", "0.0.0.0") == 0
    assert {"--server.port=9000", "--server.address=0.0.0.0"} <= set(started[0])
    assert Path(started[0][4]).name == "app.py" and Path(started[0][4]).is_file()


def test_generate_prints_texts_and_one_document(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("1\n\n0\n")
    arguments = ("generate", "dummy", "--precision", "bf16", "--prompts-file", str(prompts), "--max-new-tokens", "1")
    assert run(*arguments) == 0
    printed = capsys.readouterr()
    assert "BF16: Both texts are the same, token by token." in printed.out and "writing in BF16" in printed.err
    assert run(*arguments, "--json", "--quiet") == 0
    printed = capsys.readouterr()
    document = json.loads(printed.out)
    assert [example["prompt"] for example in document["examples"]] == ["1", "0"] and printed.err == ""


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("generate", "dummy", "--prompt", " "), 2, "The prompt is empty"),
        (("generate", "dummy", "--prompt", "1", "--prompt", ""), 2, "Prompt 2 is empty"),
        (("generate", "dummy", "--prompt", "1 0 1"), 2, "reads at most 2"),
        (("generate", "dummy", "--prompts-file", "/no/such/file"), 2, "there is no such file"),
        (("generate", "dummy", "--precision", "bf17"), 2, "Did you mean: bf16?"),
        (("generate", "dummy", "--max-new-tokens", "0"), 2, "max_new_tokens is 0"),
        (("classify", "dummy"), 1, "no head that gives classes"),
        (("embed", "dummy", "--text", "1"), 2, "reads at most 2"),
        (("embed", "dummy", "--query", "1", "--text", "0"), 1, "gives no hidden states"),
        (("embed", "dummy", "--pooling", "max"), 2, "Unknown pooling"),
    ],
)
def test_wrong_use_of_generate_classify_and_embed(
    arguments: tuple[str, ...], code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*arguments) == code
    printed = capsys.readouterr()
    assert said in printed.err and "Traceback" not in printed.err and printed.out == ""
