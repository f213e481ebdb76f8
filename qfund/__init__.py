"""qfund shows what lower precision costs a neural network, and what it buys.

>>> import qfund
>>> report = qfund.compare("pydoc-llama", ["bf16", "int8"])
>>> report.results[0].fidelity["kl_mean"]
"""

from collections.abc import Callable, Iterable

from qfund import errors
from qfund.report import Report, to_json
from qfund.spec import DEFAULT_CANDIDATES, DEFAULT_TOKENS, Spec
from qfund.version import VERSION as __version__

__all__ = ["Report", "Spec", "__version__", "compare", "errors", "to_json"]


def compare(
    model: str,
    precisions: str | Iterable[str] = DEFAULT_CANDIDATES,
    *,
    reference: str = "fp32",
    text: str | None = None,
    max_tokens: int = DEFAULT_TOKENS,
    context: int | None = None,
    revision: str | None = None,
    also: Iterable[str] = (),
    libraries: bool = False,
    progress: Callable[[str, float], None] | None = None,
) -> Report:
    """Compare candidate precisions of a model with a reference precision, in this process; nothing is stored.

    Args:
        model: a catalog name (``qfund ls models``), a local folder, or a Hub id ``owner/name``.
        precisions: the candidate or candidates (``qfund ls precisions``).
        reference: the precision they are compared with.
        text: the input; None takes the model's own evaluation text.
        max_tokens: at most this many tokens of it are used.
        context: tokens per chunk; None takes the model's own, at most 512.
        revision: branch, tag or commit of a Hub id.
        also: what quantisers convert besides: ``"head"``, ``"embeddings"``.
        libraries: run the libraries that implement the candidates too, and time everything in turns.
        progress: called with what is being done and the share that is done.

    Raises:
        qfund.errors.QfundError: with a message and a remedy.
    """
    from qfund import backends
    from qfund.engine import compute

    backends.quiet()

    candidates = (precisions,) if isinstance(precisions, str) else tuple(precisions)
    spec = Spec(model, reference, candidates, text, max_tokens, context, revision, tuple(also), libraries)
    report: Report = compute(spec, progress=progress)
    return report
