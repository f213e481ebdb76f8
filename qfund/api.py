"""What Python calls, as ``qfund.compare``."""

from collections.abc import Callable, Iterable, Mapping
from os import PathLike, fspath

from qfund.engine import compute
from qfund.features.compare.request import usual
from qfund.features.compare.request.margin import Margin
from qfund.features.compare.request.report import Report
from qfund.features.compare.request.spec import DEFAULT_TOKENS, Spec
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
        kv: caches to round keys and values to, ``"q8_0"`` or apart ``"q8_0/q4_0"`` (``precisions.caches``): the
            reference and every candidate with each of them too.
        imatrix: an importance matrix (``llama-imatrix``), named likewise: candidates that are types of GGUF files are
            rounded as llama-quantize rounds with it.

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
    )
    report: Report = compute(spec, progress=progress)
    return report
