"""What Python calls, as ``qfund.compare`` and ``qfund.sweep``."""

from collections.abc import Callable, Iterable, Mapping
from os import PathLike, fspath
from pathlib import Path
from typing import Any

from qfund.commandline import texts as texts_of
from qfund.engine import compute
from qfund.engine.store import Store
from qfund.features.compare.request import usual
from qfund.features.compare.request.margin import Margin
from qfund.features.compare.request.report import Report
from qfund.features.compare.request.spec import DEFAULT_TOKENS, Spec
from qfund.features.memory.request.plan import from_headers
from qfund.features.sweep.request import document
from qfund.features.sweep.request.outcomes import outcomes
from qfund.features.sweep.request.plan import Planned, plan
from qfund.features.sweep.request.ranking import Failed, Line, Swept, current
from qfund.features.sweep.request.sweep import Choices, items
from qfund.inputs.texts import ALL, NamedText
from qfund.precisions import backends
from qfund.precisions.request import reference_of


def compare(
    model: str,
    precisions: str | Iterable[str] | None = None,
    *,
    reference: str | None = None,
    text: str | None = None,
    max_tokens: int = DEFAULT_TOKENS,
    context: int | None = None,
    revision: str | None = None,
    also: Iterable[str] = (),
    libraries: bool = False,
    stride: int | None = None,
    scoring: str = ALL,
    texts: Mapping[str, str] | None = None,
    until: Margin | None = None,
    files: str | PathLike[str] | Iterable[str | PathLike[str]] = (),
    imatrix: str | PathLike[str] | None = None,
    progress: Callable[[str, float], None] | None = None,
    kv: str | Iterable[str] = (),
    without: str | Iterable[str] = (),
) -> Report:
    """Compare candidate precisions of a model with a reference precision, in this process; nothing is stored.

    Args:
        model: a catalog name (``qfund ls models``), a local folder, or a Hub id ``owner/name``.
        precisions: the candidate or candidates (``qfund ls precisions``); None takes three that keep the rest of the
            model in the reference's dtype.
        reference: the precision they are compared with; None takes the dtype that the checkpoint is stored in.
        text: the input; None takes the model's own evaluation text.
        max_tokens: at most this many tokens of it (of each, where there are several) are used.
        context: tokens per chunk; None takes the model's own, at most 512.
        revision: branch, tag or commit of a Hub id.
        also: what quantisers convert besides: ``"head"``, ``"embeddings"``.
        libraries: run the libraries that implement the candidates too, and time everything in turns.
        stride: tokens from the start of one chunk to that of the next, where they overlap; None for no overlap.
        scoring: ``"all"`` positions, or the ``"second-half"`` of each whole chunk, as llama.cpp, or the
            ``"answers"`` in conversations, where the text is JSON of messages, or the ``"reference-answers"`` that the
            reference writes to them first.
        texts: several inputs by name, in place of ``text``, each its own.
        until: read on only for candidates of which it is not certain yet whether they are within this margin.
        progress: called with what is being done and the share that is done. One that has a ``so_far`` is given the
            report of what was read, after each round (``qfund.core.progress``).
        files: quantised files or folders of the model, candidates too: paths, or ``owner/name@revision:file`` of the
            Hub. With ``precisions=()`` they are the only ones; one of them may be the ``reference``.
        kv: caches to round keys and values to, ``"q8_0"`` or apart ``"q8_0/q4_0"``, or with tokens that stay as
            computed ``"q8_0:first4:window64"`` (``precisions.caches``): the reference and every candidate with each of
            them too.
        imatrix: an importance matrix (``llama-imatrix``), named likewise: candidates that are types of GGUF files are
            rounded as llama-quantize rounds with it.
        without: what is not measured, to save time: ``"drift"`` along the blocks, the ``"map"`` of tokens, the
            ``"noise"`` floor.

    Raises:
        qfund.core.errors.QfundError: with a message and a remedy.
    """
    backends.quiet()
    reference = reference or usual.reference(model, revision)
    if precisions is None:
        precisions = usual.candidates(reference)
    candidates = (precisions,) if isinstance(precisions, str) else tuple(precisions)
    spec = Spec(
        model=model,
        reference=reference_of(reference, candidates),
        precisions=candidates,
        text=text,
        max_tokens=max_tokens,
        context=context,
        revision=revision,
        also=tuple(also),
        libraries=libraries,
        stride=stride,
        scoring=scoring,
        files=tuple(fspath(file) for file in ((files,) if isinstance(files, str | PathLike) else files)),
        imatrix=None if imatrix is None else fspath(imatrix),
        texts=tuple(NamedText(name, content) for name, content in (texts or {}).items()),
        until=until,
        kv=(kv,) if isinstance(kv, str) else tuple(kv),
        without=(without,) if isinstance(without, str) else tuple(without),
    )
    report: Report = compute(spec, progress=progress)
    return report


def sweep(
    models: str | PathLike[str] | Iterable[str | Mapping[str, Any]],
    precisions: str | Iterable[str] | None = None,
    *,
    texts: str | Iterable[str] = (),
    margin: Margin | None = None,
    store: bool = True,
    progress: Callable[[str, float], None] | None = None,
    **settings: Any,
) -> Swept:
    """Compare many models, one after the other in this process, and rank what was found. One that fails is told in
    ``failed`` and ends no other.

    Args:
        models: names as ``compare`` takes them (Hub ids also with ``@revision``), or mappings with ``"model"`` and
            settings of its own, as in a list of ``qfund sweep``; or the path of such a list in YAML.
        precisions: the candidates of all models; None takes what is usual for each.
        texts: inputs for all models, each a comparison of its own; none takes each model's own.
        margin: what candidates are judged by.
        store: whether results are looked for and kept where ``qfund compare`` and the dashboard keep them, so that
            the same call goes on where one was ended.
        progress: as in ``compare``, told with the model's name.
        settings: what else a list may set for all: ``reference``, ``max_tokens``, ``until_decided``, …

    Raises:
        qfund.core.errors.QfundError: the list or a setting is malformed.
    """
    backends.quiet()
    path = fspath(models) if isinstance(models, str | PathLike) else ""
    listed: Any = document.parsed(texts_of.read(Path(path))) if path.endswith((".yaml", ".yml")) else models
    listed = listed if isinstance(listed, dict) else {"models": [listed] if listed == path else list(listed)}
    given = {"precisions": precisions, "text": [texts] if isinstance(texts, str) else list(texts), **settings}
    shared = {name: value for name, value in given.items() if value not in (None, [])}
    chosen = document.chosen(shared | listed, Choices(margin=_parts(margin)), texts_of.read)
    return _swept(chosen, Store() if store else None, progress)


def _parts(margin: Margin | None) -> tuple[tuple[str, float | None], ...] | None:
    return None if margin is None else tuple((name, getattr(margin, name)) for name in Margin.__slots__)


def _swept(chosen: Iterable[Choices], store: "Store | None", progress: Callable[[str, float], None] | None) -> Swept:
    planned = plan(items(chosen, from_headers), lambda key: False, ())
    lines: list[Line] = []
    failed: list[Failed] = []

    def measure(row: Planned) -> Report:
        assert row.item is not None
        told = progress and (lambda phase, share: progress(f"{row.model}: {phase}", share))
        report: Report = compute(row.item.spec, store=store, progress=told)
        return report

    for found in outcomes(planned, measure):
        if isinstance(found, Failed):
            failed.append(found)
        else:
            lines += found
    return Swept.of(current(lines), failed)
