"""What each precision takes under a workload: arithmetic on a ``Shape`` and ``Weights`` that a job found once.

Weights are exact (``qfund.models.skeleton``), the cache is exact from the config; activations and the runtime are
estimates. A page computes rows anew when somebody moves a slider.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from qfund.features.memory.request.fits import (
    MAX_CONTEXT,
    RUNTIMES,
    Activations,
    Amount,
    Phase,
    Row,
    Shape,
    Weights,
    Workload,
    row_in,
)
from qfund.features.memory.request.kv_cache import KV_OF, SIZES, Config, kv_bytes, state_bytes
from qfund.precisions.caches import KV_FORMATS, KvFormat, kept, parts, with_cache
from qfund.precisions.precision import STORED

EXACT, ESTIMATE = "exact", "estimate"


def rows(shape: Shape, weights: Iterable[Weights], workload: Workload) -> tuple[Row, ...]:
    """One row a precision, pure arithmetic: at most milliseconds."""
    return tuple(_row(shape, one, workload) for one in weights)


def rows_with(shape: Shape, weights: Iterable[Weights], workload: Workload, kv: Iterable[str]) -> dict[str, Row]:
    """By candidate: each precision as the workload caches, and with each of these caches."""
    held = tuple(weights)
    found = {row.precision: row for row in rows(shape, held, workload)}
    for name in kv:
        found |= {with_cache(row.precision, name): row for row in rows(shape, held, replace(workload, kv=name))}
    return found


def _row(shape: Shape, weights: Weights, workload: Workload) -> Row:
    parts = _parts(shape, weights, workload, workload.context)
    total = sum(amount.bytes for amount in parts.values())
    return Row(
        precision=weights.precision,
        **parts,
        total=Amount(total, ESTIMATE),
        fits=total <= workload.budget,
        headroom=workload.budget - total,
        longest_context=longest_context(shape, weights, workload),
    )


def total_bytes(shape: Shape, weights: Weights, workload: Workload, context: int) -> int:
    """Everything together, for a context other than the workload's; it never falls as the context grows."""
    return sum(amount.bytes for amount in _parts(shape, weights, workload, context).values())


def _parts(shape: Shape, weights: Weights, workload: Workload, context: int) -> dict[str, Amount]:
    dtype = computes_in(shape, weights)
    batch = workload.batch
    alive = activations_of(shape, dtype, workload.runtime).bytes(batch, context, workload.all_logits)
    alive += behind_windows(shape, batch, context, dtype) + weights.dequantised
    kv, plain = workload.kv or KV_OF[dtype], KV_FORMATS[KV_OF[dtype]]
    cache = kv_bytes(shape.cache, batch, context, *_formats(kv), sum(kept(kv)), plain)
    return {
        "weights": Amount(weights.bytes, EXACT),
        "kv_cache": Amount(cache, EXACT),
        "state": Amount(state_bytes(shape.states, batch, dtype), EXACT),
        "activations": Amount(alive, ESTIMATE),
        "runtime": Amount(RUNTIMES[workload.runtime].bytes, ESTIMATE),
    }


def _formats(kv: str) -> tuple[KvFormat, KvFormat]:
    """Of keys and of values."""
    keys, values = parts(kv)
    return KV_FORMATS[keys], KV_FORMATS[values]


def computes_in(shape: Shape, weights: Weights) -> str:
    """torch's name of a dtype. A checkpoint that is quantised already stands alone: the one that was traced for it."""
    row = row_in(weights.precision)
    return shape.activations[-1].dtype if row.family == STORED else row.dtype


def behind_windows(shape: Shape, batch: int, context: int, dtype: str) -> int:
    """Keys and values of a prompt that sliding windows leave behind: transformers holds them until the next token."""
    kv = KV_FORMATS[KV_OF[dtype]]
    whole = [replace(row, window=None) for row in shape.cache]
    return kv_bytes(whole, batch, context, kv) - kv_bytes(shape.cache, batch, context, kv)


def activations_of(shape: Shape, dtype: str, runtime: str = "cuda") -> Activations:
    """Those of a dtype on a device; fp16 has bf16's, and fp64 twice those of fp32."""
    found = {one.dtype: one for one in (runtime == "cpu" and shape.on_cpu) or shape.activations}
    if dtype in found:
        return found[dtype]
    return found["bfloat16"].times(1, dtype) if dtype == "float16" else found["float32"].times(2, dtype)


def longest_context(shape: Shape, weights: Weights, workload: Workload) -> int:
    """The largest context that fits, 0 where none does; at most ``MAX_CONTEXT``. Exact: one token more does not fit."""
    low, high = 0, MAX_CONTEXT + 1  # low fits (or is 0), high does not
    while high - low > 1:
        middle = (low + high) // 2
        if total_bytes(shape, weights, workload, middle) <= workload.budget:
            low = middle
        else:
            high = middle
    return low


def formula(config: Mapping[str, Any], dtype: str) -> Activations:
    """A guess at the activations for a model whose forward cannot be traced: the residual stream and what was added to
    it (5 widths), one gated multilayer perceptron (3 of its widths), queries, keys and values (4 widths); and three
    score matrices a head where attention is not fused. Within a factor of two of traces of usual decoders."""
    fields = Config(config, str(config.get("model_type", "model")))
    hidden = fields.need("hidden_size")
    inner = fields.find("intermediate_size", "ffn_dim", "encoder_ffn_dim", "d_ff") or 4 * hidden
    fused = config.get("attention", "sdpa") != "eager"
    heads = 0 if fused else fields.need("num_attention_heads")
    size = SIZES[dtype]
    blocks = Phase(float(size * (9 * hidden + 3 * inner)), float(3 * heads * size))
    head = Phase(float(size * (3 * hidden + int(config.get("vocab_size") or 0))))
    return Activations(dtype, (blocks,), (head,), "formula")
