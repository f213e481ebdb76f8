"""What a report says for a model card on the Hub: the metadata between its dashes, and a section of Markdown."""

import re
from collections.abc import Iterator

import pandas as pd

from qfund.checkpoints import catalog
from qfund.core.errors import QfundError
from qfund.core.metrics.table import METRICS
from qfund.drawing.phrases import label
from qfund.features.compare.request.decision import Margin, decide
from qfund.features.compare.request.hardware import Hardware
from qfund.features.compare.request.ranking import ranked
from qfund.features.compare.request.report import PrecisionResult, Report
from qfund.features.compare.tables import metrics
from qfund.features.compare.tables.ranking import ranking
from qfund.features.compare.words import answer, calls, statistics
from qfund.features.compare.words import report as about

#: Name of a task → what the Hub calls it; of others it is the features of a model.
_TASKS = {
    "causal language model": "text-generation",
    "masked language model": "fill-mask",
    "sequence-to-sequence model": "text-generation",
    "sequence classifier": "text-classification",
    "token classifier": "token-classification",
    "image classifier": "image-classification",
    "vision-to-text model": "image-text-to-text",
}
_OTHER = "feature-extraction"


def card(report: Report, margin: Margin, link: str = "") -> bytes:
    """UTF-8. The metadata's keys are the Hub's; merge them with those that a card has. ``link`` is to the same on a
    dashboard."""
    rows = ranked(report, decide(report, margin), {})
    fidelity = metrics.metrics_text(report, every=False)
    parts = [
        f"---\n{_metadata(report, link)}\n---",
        "## What lower precision costs",
        _plain(answer.sentence(report, rows, Hardware())),
        _table(ranking(report, rows).rename(columns={"": "#"})),
        _plain(about.nothing_compared(report)) if fidelity.empty else _table(fidelity.drop(columns=["Definition"])),
        "" if fidelity.empty else _plain(statistics.how_sure(report)),
        _plain(f"{about.provenance(report)}."),
        _code(calls.shell(report.spec, margin)),
        f"[The whole comparison](<{link}>)" if link else "",
    ]
    return ("\n\n".join(filter(None, parts)) + "\n").encode("utf-8", "replace")


def _metadata(report: Report, link: str) -> str:
    from huggingface_hub import EvalResult, ModelCardData  # some tenths of a second

    results = [
        EvalResult(
            task_type=_TASKS.get(report.model.task, _OTHER),
            dataset_type="custom",
            dataset_name=about.input_phrase(report),
            dataset_revision=report.input.sha256,
            metric_type=metric,
            metric_name=f"{METRICS[metric].label}, {label(result.precision)}",
            metric_value=value,
            source_name="qfund" if link else None,
            source_url=link or None,
        )
        for result in (report.reference, *report.results)
        for metric, value in _values(report, result)
    ]
    name = report.spec.model.rstrip("/").rpartition("/")[2] or report.spec.model
    data = ModelCardData(model_name=name, tags=["qfund"], eval_results=results or None)
    if _on_the_hub(report):
        data.base_model, data.base_model_relation = report.spec.model, "quantized"  # type: ignore[attr-defined]
    return str(data.to_yaml()).strip()


def _values(report: Report, result: PrecisionResult) -> Iterator[tuple[str, float]]:
    names = ("perplexity", *metrics.metrics_of(report, every=False))
    for metric in names:
        if metric in METRICS and metric in result.fidelity:
            yield metric, result.fidelity[metric].value


def _on_the_hub(report: Report) -> bool:
    try:
        return catalog.locate(report.spec.model, report.spec.revision).kind == "hub"
    except QfundError:
        return False


def _table(frame: pd.DataFrame) -> str:
    rows = [[*frame.columns], ["---"] * len(frame.columns), *frame.astype(str).to_numpy().tolist()]
    return "\n".join(f"| {' | '.join(map(_plain, row))} |" for row in rows)


def _code(text: str) -> str:
    """Between more backticks than it holds anywhere."""
    fence = "`" * (max(map(len, re.findall("``+", text)), default=2) + 1)
    return f"{fence}sh\n{text}\n{fence}"


def _plain(text: str) -> str:
    """As it is read: no Markdown, no HTML and no new line of a name that a checkpoint brings."""
    told = " ".join(text.split())
    return "".join(f"\\{sign}" if sign in "\\`*_[]<>|" else sign for sign in told)
