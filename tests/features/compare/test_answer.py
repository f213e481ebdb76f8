"""What to run: the order of candidates, the sentence, why not the others, and where a model is to run."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from qfund.checkpoints import catalog
from qfund.core.estimate import Estimate
from qfund.features.compare.command import printing
from qfund.features.compare.request import hardware, ranking, usual
from qfund.features.compare.request.decision import Margin, decide
from qfund.features.compare.request.hardware import Hardware
from qfund.features.compare.request.ranking import Ranked, chosen, ranked
from qfund.features.compare.request.report import PrecisionResult, Report
from qfund.features.compare.request.spec import DEFAULT_CANDIDATES, Spec
from qfund.features.compare.tables.ranking import ranking as table
from qfund.features.compare.words import answer
from qfund.features.memory.request.fits import Amount, Row
from tests.features.compare.reports import full_report

GIB = 1024**3
CARD = Hardware("rtx-4090")


def row(precision: str, total: int, budget: int = 24 * GIB) -> Row:
    """What running takes, by its sum."""
    none = Amount(0, "exact")
    whole = Amount(total, "estimate")
    return Row(precision, whole, none, none, none, none, whole, total <= budget, budget - total, 4096)


def sized(report: Report, **sizes: int) -> Report:
    """With footprints in bytes."""
    results = tuple(replace(result, footprint_bytes=sizes[result.precision]) for result in report.results)
    reference = replace(report.reference, footprint_bytes=sizes[report.reference.precision])
    return replace(report, results=results, reference=reference)


SIZES = {"bf16": 8 * GIB, "int8_bf16": 4 * GIB, "int4_bf16": 2 * GIB, "nf4_bf16": 2 * GIB}


@pytest.fixture(scope="module")
def report() -> Report:
    """INT4 changes 4.6 % of tokens, which is too many for the usual margin, INT8 none to speak of."""
    spec = Spec("dummy", "bf16", ("int8_bf16", "int4_bf16", "nf4_bf16"))
    found = full_report(spec, {"int8_bf16": 0.003, "int4_bf16": 0.05, "nf4_bf16": 0.07})
    return sized(found, **SIZES)


def rows(report: Report, margin: Margin | None = None, fits: dict[str, Row] | None = None) -> tuple[Ranked, ...]:
    return ranked(report, decide(report, margin or Margin()), fits or {})


def said(report: Report, found: tuple[Ranked, ...], place: Hardware = CARD) -> str:
    return answer.sentence(report, found, place)


def test_the_smallest_within_the_margin_that_fits_is_named(report: Report) -> None:
    fits = {name: row(name, size + GIB) for name, size in SIZES.items()}
    found = rows(report, fits=fits)
    assert said(report, found).startswith(
        "INT8 (rest BF16): 4 GiB, fits your RTX 4090 with 19 GiB to spare, no measurable change of perplexity (−0."
    )
    assert (found[0].result.precision, found[0].place) == ("int8_bf16", 1)
    # With a wider margin the smallest ones come first; they are as small as each other, and told apart.
    found = rows(report, Margin(tokens=0.2), fits)
    assert [each.result.precision for each in found] == ["int4_bf16", "nf4_bf16", "int8_bf16"]
    assert [each.place for each in found] == [1, 2, 3] and not any(each.shared for each in found)
    assert said(report, found).startswith("INT4 g32 (rest BF16): 2 GiB, fits your RTX 4090 with 21 GiB to spare, ")
    best = chosen(found, report.reference)
    assert best is not None
    reasons = [answer.why_not(each, best, report.reference) for each in found]
    assert reasons == ["", "further from the reference", "2 × as large"]


def test_what_does_not_fit_is_not_named(report: Report) -> None:
    small = {name: row(name, size + GIB, 4 * GIB) for name, size in SIZES.items()}
    found = rows(report, fits=small)
    assert said(report, found, Hardware("4GiB")) == (
        "Nothing within your margin fits: INT8 (rest BF16), the smallest, lacks 1 GiB on 4GiB; INT4 g32 (rest BF16) "
        "would fit, with 4.6 % of top outputs changed (3.1 to 6.5 %)."
    )
    assert all(each.place is None for each in found)
    eight = next(each for each in found if each.result.precision == "int8_bf16")
    assert answer.why_not(eight, None, report.reference) == "lacks 1 GiB"
    none = {name: row(name, size + GIB, GIB) for name, size in SIZES.items()}
    assert said(report, rows(report, fits=none), Hardware()) == (
        "Nothing within your margin fits: INT8 (rest BF16), the smallest, lacks 4 GiB on this machine."
    )


def test_nothing_that_is_no_smaller_is_recommended(report: Report) -> None:
    large = sized(report, **dict.fromkeys(SIZES, 16 * GIB) | {"bf16": 8 * GIB})
    fit = row("bf16", 9 * GIB)
    found = answer.sentence(large, rows(large), CARD, fit)
    assert found == (
        "No candidate within your margin is smaller than BF16 (8 GiB). "
        "BF16 itself fits your RTX 4090 with 15 GiB to spare."
    )
    assert chosen(rows(large), large.reference) is None


def test_outside_and_undecided_are_said_as_what_they_are(report: Report) -> None:
    strict = Margin(perplexity=None, tokens=0.001, kl=None)
    report = replace(report, results=report.results[1:])  # of one size, and NF4 is the farther one
    assert said(report, rows(report, strict)).startswith(
        "No candidate is within your margin: INT4 g32 (rest BF16) has 4.6 %"
    )
    few = {"top1_agreement": Estimate(0.95, None, 9, "share"), "perplexity_ratio": Estimate(1.2, None, 9, "×")}
    bare = replace(report, results=tuple(replace(each, fidelity=few, chunks=None) for each in report.results))
    assert said(bare, rows(bare)).startswith("Not decided yet: INT4 g32 (rest BF16), 2 GiB, 20 % worse perplexity; ")
    broken = replace(
        report, results=tuple(replace(each, fidelity={}, nonfinite_positions=3) for each in report.results)
    )
    assert said(broken, rows(broken)) == "No candidate gives finite outputs."
    assert {answer.why_not(each, None, report.reference) for each in rows(broken)} == {
        "outputs at 3 positions are not finite"
    }
    assert said(replace(report, results=()), ()) == "None of these precisions could be measured for this model."


def test_a_smaller_one_that_is_not_decided_is_mentioned(report: Report) -> None:
    margin = Margin(tokens=0.045)  # inside of INT4's interval, 3.0 to 6.7 %
    found = said(report, rows(report, margin))
    assert found.startswith("INT8 (rest BF16)") and found.endswith(
        " INT4 g32 (rest BF16) is smaller and not decided yet."
    )
    unfit = {"int4_bf16": row("int4_bf16", 3, 2), "nf4_bf16": row("nf4_bf16", 3, 2)}
    assert "not decided" not in said(report, rows(report, margin, unfit)), "what cannot run need not be decided"


def twins(report: Report) -> Report:
    """Two candidates of one size with the same outputs."""
    four, nf4 = report.results[1:]
    twin: PrecisionResult = replace(four, precision="nf4_bf16", footprint_bytes=nf4.footprint_bytes)
    return replace(report, results=(report.results[0], four, twin))


def test_what_cannot_be_told_apart_shares_a_place(report: Report) -> None:
    alike = twins(report)
    found = rows(alike, Margin(tokens=0.2))
    assert [(each.place, each.shared) for each in found] == [(1, True), (1, True), (3, False)]
    assert not ranking.told_apart(alike, "int4_bf16", "nf4_bf16")
    assert ranking.told_apart(report, "int4_bf16", "nf4_bf16")
    assert said(alike, found).endswith(" NF4 (rest BF16) is as small and cannot be told from it.")
    assert list(table(alike, found)[""]) == ["1=", "1=", "3", ""]
    unknown = replace(report, results=tuple(replace(each, chunks=None) for each in report.results))
    assert not ranking.told_apart(unknown, "int4_bf16", "nf4_bf16"), "without sums by chunk nothing is known"


def test_a_terminal_of_100_by_40_shows_the_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    found = full_report(Spec("dummy", precisions=DEFAULT_CANDIDATES))
    lines = printing.text(found, Margin()).splitlines()
    assert sum(max(1, -(-len(line) // 100)) for line in lines) <= 39, "and the prompt"
    assert lines[2].startswith("FP16: 960 B, no measurable change of perplexity")
    every = printing.text(found, Margin(), every=True)
    assert "Reverse KL" in every and "Reverse KL" not in "\n".join(lines) and lines[-1].startswith("Every metric")
    assert not any(set(line.split()) == {"–"} for line in lines), "no column of dashes"


@pytest.mark.parametrize("place", [Hardware(), CARD, Hardware("16GiB", 8192, 4), Hardware(context=7)])
def test_where_it_runs_stands_in_a_link(place: Hardware) -> None:
    for complete in (False, True):
        assert hardware.from_query(hardware.to_query(place, complete)) == (place, [])
    assert hardware.to_query(Hardware()) == {}


def test_hardware_has_a_name_and_a_context() -> None:
    assert [each.name for each in (Hardware(), CARD, Hardware("16GiB"))] == ["this machine", "your RTX 4090", "16GiB"]
    assert [Hardware().length(trained) for trained in (None, 256, 131_072)] == [4096, 256, 4096]
    assert Hardware(context=9).length(256) == 9
    assert hardware.from_query({"length": ["many"], "batch": ["0"], "model": ["x"]})[1] != []


def test_a_model_is_compared_with_what_it_is_stored_in() -> None:
    assert usual.reference("pydoc-llama") == "fp32" and usual.candidates("fp32") == DEFAULT_CANDIDATES
    assert usual.reference("nowhere/at all") == "fp32", "what cannot be read is told by whoever measures it"
    assert usual.candidates("bf16") == ("int8_bf16", "int4_bf16", "nf4_bf16") == usual.candidates("fp16")
    assert usual.candidates("stored") == ("stored",)


def test_a_folder_is_read_by_its_headers(tmp_path: Path) -> None:
    shutil.copy(catalog.CATALOG["pydoc-llama"].folder / "config.json", tmp_path)
    save_file(
        {"a.weight": torch.zeros(4, 4, dtype=torch.bfloat16), "b.bias": torch.zeros(4)}, tmp_path / "model.safetensors"
    )
    assert usual.reference(str(tmp_path)) == "bf16"
