"""How long a comparison will take on this machine: from what earlier ones took here, or from a first guess."""

import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache

from qfund.checkpoints import catalog, checkpoint
from qfund.core.errors import QfundError
from qfund.core.intervals import MIN_BLOCKS
from qfund.core.processor import cpu_name, multiplies_in
from qfund.features.compare.request.costs import Costs
from qfund.features.compare.request.decision import Decision
from qfund.features.compare.request.margin import Margin
from qfund.features.compare.request.report import Report
from qfund.features.compare.request.simultaneous import GROWTH
from qfund.features.compare.request.spec import MAX_TOKENS, NOISE, Spec
from qfund.precisions.caches import kv_of
from qfund.precisions.files import row_of
from qfund.precisions.precision import STORED
from qfund.precisions.table import PRECISIONS

#: What somebody waits for.
MINUTE = 60.0
#: Amounts of text on offer, in tokens.
AMOUNTS = (256, 512, 1024, 2048, 4096, 8192, 16_384, 65_536)
#: Tokens of a chunk and of a batch where nothing else is said, as ``models.inputs`` makes them.
_CONTEXT, _BATCH = 512, 1024
#: Tokens of the documentation that is read where a model brings no text, about.
_DOCUMENTATION = 45_000
#: Positions of the noise, as ``measure.noise`` has them.
_NOISE = 1024
#: Of a first guess, by dtype: a forward beside one in FP32, as docs/precisions.md has it (FP16 is slower in small
#: models, and as fast in large ones), and on a processor without instructions for it (21 and 27 GFLOP/s for 174 in
#: FP32); what is rounded is unpacked before.
_SLOWER = {"float32": 1.0, "bfloat16": 0.6, "float16": 2.0, "float64": 2.3}
_EMULATED = {"bfloat16": 8.0, "float16": 6.0}
_UNPACKED = 1.1
#: Of a first guess: seconds that 10⁹ weights take to be read and made ready for a precision; that a logit takes to be
#: compared; that all else takes; and the noise, in forwards of the reference.
_READ, _LOGIT, _OPENING, _NOISES = 0.8, 2.0e-8, 4.0, 3.0


@dataclass(frozen=True, slots=True)
class Size:
    """``context``: tokens that a chunk has if nothing else is asked for; ``text``: that its evaluation text has at
    most."""

    parameters: int
    vocabulary: int
    context: int
    text: int = _DOCUMENTATION


@dataclass(frozen=True, slots=True)
class Duration:
    """Seconds: of all of it, and until the first verdict, after ``first_tokens``. ``measured`` says that it is no
    first guess, but follows from what was measured on this machine before."""

    seconds: float
    first: float
    first_tokens: int
    measured: bool


def size_of(spec: Spec) -> Size | None:
    """Of the model, from its files' headers; None where they are not here, are quantised already, or of a model that
    looks at pictures."""
    try:
        source = catalog.locate(spec.model, spec.revision)
        folder = source.folder
        if folder is None or any(PRECISIONS[name].family == STORED for name in spec.precisions):
            return None
        found = checkpoint.read(folder)
        written = folder / "tokenizer_config.json"
        tokenizer = checkpoint.read_json(written) if written.is_file() else {}
    except (QfundError, KeyError):
        return None
    if found.config.keys() & {"vision_config", "image_size"}:
        return None
    text = found.config.get("text_config") or found.config
    own = folder / "evaluation.txt"  # a token is a sign and a blank at least
    tokens = own.stat().st_size // 2 if source.kind == "shipped" and own.is_file() else _DOCUMENTATION
    limits = [text.get(name) for name in ("max_position_embeddings", "n_positions", "n_ctx")]
    limits.append(tokenizer.get("model_max_length"))
    longest = min((limit for limit in limits if isinstance(limit, int) and limit > 1), default=_CONTEXT)
    vocabulary = text.get("vocab_size")
    return Size(
        sum(tensor.elements for tensor in found.tensors.values()),
        vocabulary if isinstance(vocabulary, int) else 0,
        min(_CONTEXT, longest),
        tokens,
    )


def estimate(spec: Spec, size: Size, before: Iterable[Costs]) -> Duration:
    """How long ``spec`` will take; ``before`` are the costs of earlier comparisons, the newest first.

    Of the earlier ones on this processor, the one of the nearest size is scaled: forwards and reading by
    parameters, statistics by the vocabulary.
    """
    known = _nearest(size, before)
    costs = known or _guess(size, catalog.device(), frozenset(filter(multiplies_in, _EMULATED)), _speed())
    grown = size.parameters / costs.parameters
    cached = (name for name in spec.candidates if kv_of(name) and name not in spec.precisions)
    ways = (spec.reference, *spec.precisions, *cached)
    forward = grown * sum(_forward(costs, name) for name in ways)
    widened = size.vocabulary / costs.vocabulary if size.vocabulary and costs.vocabulary else 1.0
    token = forward + (len(ways) - 1) * costs.comparing * widened
    walk = costs.reading * grown * len(ways) / costs.ways
    noise = 0.0 if known and grown == 1 else grown * (costs.noise or _NOISES * _forward(costs, spec.reference))
    noise = 0.0 if NOISE in spec.without else noise
    tokens = spec.max_tokens * max(1, len(spec.texts))
    if spec.text is not None:
        tokens = min(tokens, max(2, len(spec.text) // 3))
    elif not spec.texts:
        tokens = min(tokens, size.text)
    context = min(spec.context or size.context, tokens)
    repeated = context / min(spec.stride, context) if spec.stride else 1.0
    first = min(tokens, max(MIN_BLOCKS * context, min(_BATCH, tokens)))
    soon = costs.opening + (1 + (first > 2 * _BATCH)) * walk + first * repeated * token
    walks = 1 + math.ceil(math.log(max(1.0, tokens / first), GROWTH))
    seconds = costs.opening + walks * walk + tokens * repeated * token + min(_NOISE, tokens) * noise
    if walks == 1:
        soon = seconds
    return Duration(seconds, min(soon, seconds), first, known is not None)


def quick(spec: Spec, size: Size, before: Sequence[Costs]) -> int:
    """The largest amount on offer that takes about a minute; the smallest, where all take longer."""
    fast = [many for many in AMOUNTS if estimate(replace(spec, max_tokens=many), size, before).seconds <= 1.25 * MINUTE]
    return max(fast, default=AMOUNTS[0])


def with_short_chunks(spec: Spec, size: Size, before: Sequence[Costs]) -> Spec:
    """The same with chunks so short that a first verdict, which takes some of them, comes within about a minute: of a
    slow model whose chunks nobody has chosen."""
    firsts = {asked: estimate(asked, size, before).first for asked in chunkings(spec, size)}
    return next(
        (asked for asked, first in firsts.items() if first <= 1.25 * MINUTE), min(firsts, key=firsts.__getitem__)
    )


def chunkings(spec: Spec, size: Size) -> list[Spec]:
    """What ``with_short_chunks`` chooses among, the longest chunks first."""
    if spec.context is not None or spec.stride is not None or spec.texts:
        return [spec]
    return [spec, *(replace(spec, context=context) for context in (256, 128, 64) if context < size.context)]


@dataclass(frozen=True, slots=True)
class More:
    """``spec`` reads so many ``tokens`` more, which would decide, and takes ``seconds``; None where nobody knows."""

    spec: Spec
    tokens: int
    seconds: float | None


def more(report: Report, decisions: Sequence[Decision], margin: Margin, before: Sequence[Costs] = ()) -> More | None:
    """What would decide for those open candidates for which some number of tokens does, if what was seen goes on; None
    where there are none.

    It is asked for with ``until``, so that who looked at the report before may look again: intervals allow for it, and
    half as much again as without looking is read at most. What was read already is not read again, unless a candidate
    was left open before the others.
    """
    open_ = [row for row in decisions if row.state == "inconclusive"]
    early = {result.precision: result.tokens for result in report.results if result.tokens is not None}
    needed = [
        early.get(row.precision, report.input.tokens) + math.ceil(1.5 * row.more_tokens)
        for row in open_
        if row.more_tokens
    ]
    total = min(MAX_TOKENS, max(needed, default=0))
    if total <= report.input.tokens:
        return None
    spec = replace(report.spec, max_tokens=total, until=margin)
    size = size_of(spec)
    if size is None:
        return More(spec, total - report.input.tokens, None)
    still = replace(spec, precisions=tuple(row.precision for row in open_), kv=(), context=report.input.context)
    whole, done = (
        estimate(replace(still, max_tokens=many), size, before).seconds for many in (total, report.input.tokens)
    )
    anew = any(row.precision in early for row in open_)
    return More(spec, total - report.input.tokens, whole if anew else max(0.0, whole - done))


def _nearest(size: Size, before: Iterable[Costs]) -> Costs | None:
    """By parameters, the newest of equal ones; None where none was measured here, or only of a wholly other size."""
    # Of a GPU the name is not known without torch.
    alike = (lambda row: row.device != "cpu") if catalog.device() != "cpu" else _on_this_cpu
    there = [row for row in before if row.parameters and row.forward and alike(row)]
    found = min(there, key=lambda row: abs(math.log(row.parameters / size.parameters)), default=None)
    return found if found and 1 / 8 <= found.parameters / size.parameters <= 8 else None


def _on_this_cpu(row: Costs) -> bool:
    return row.device == "cpu" and row.cpu == cpu_name()


def _forward(costs: Costs, name: str) -> float:
    """Seconds of a token in this precision; where it was not measured, of those in the same dtype, or of any."""
    if name in costs.forward:
        return costs.forward[name]
    row = row_of(name)
    alike = [(other, taken) for other, taken in costs.forward.items() if row_of(other).dtype == row.dtype]
    nearest = [taken for other, taken in alike if bool(row_of(other).quantizer) == bool(row.quantizer)]
    chosen = nearest or [taken for _, taken in alike] or list(costs.forward.values())
    return sum(chosen) / len(chosen)


@lru_cache(maxsize=32)
def _guess(size: Size, device: str, native: frozenset[str], speed: float) -> Costs:
    """``native``: narrow dtypes that the processor multiplies in; ``speed``: operations a second."""
    token = 2 * size.parameters / speed
    slower = _SLOWER | {dtype: times for dtype, times in _EMULATED.items() if device == "cpu" and dtype not in native}
    forward = {
        row.name: token * slower.get(row.dtype, 1.0) * (_UNPACKED if row.quantizer else 1.0)
        for row in PRECISIONS.values()
        if row.family != STORED
    }
    return Costs(
        cpu=cpu_name(),
        threads=0,
        device=device,
        parameters=size.parameters,
        vocabulary=size.vocabulary,
        context=size.context,
        opening=_OPENING,
        forward=forward,
        reading=_READ * size.parameters / 1e9,
        ways=1,
        comparing=_LOGIT * size.vocabulary,
    )


@cache
def _speed() -> float:
    """Floating-point operations a second of a product in FP32 on this machine: the best of three, some 0.1 s."""
    import numpy as np  # not before somebody asks

    hidden, weight = np.ones((512, 1024), np.float32), np.ones((1024, 1024), np.float32)
    taken = []
    for _ in range(3):
        started = time.perf_counter()
        hidden @ weight
        taken.append(time.perf_counter() - started)
    return 2.0 * hidden.size * weight.shape[1] / min(taken)
