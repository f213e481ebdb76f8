"""Every statistic beside an independent computation from the same logits: ``python -m benchmarks.statistics``.

The shipped model in fp32 and in three other precisions gives logits and hidden states; qfund's accumulators and
``METRICS`` make statistics of them, and so do formulas written here straight from their definitions, over the whole
vocabulary at once and in extended precision (80 bits where the processor has them), so that what differs is qfund's
rounding alone. Aim: 1e-9 relative, for every metric, its standard error, every percentile and every bucket; a single
position's divergence of 1e-10 nat or a cosine's distance from 1 cannot be better than the last digits of a double near
1 that they are the difference of, so what is within 1e-14 absolute is told apart.
"""

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

from qfund.checkpoints import catalog
from qfund.core.estimate import Estimate
from qfund.core.metrics.estimates import CONFIDENCES, PERCENTILES, Bucket, buckets, estimates, percentiles
from qfund.core.metrics.positions import TOP_K
from qfund.core.metrics.table import METRICS
from qfund.inputs import evaluation
from qfund.models.comparison.positions import Candidate, Comparison

TOKENS, CONTEXT, BATCH = 4096, 256, 4
AIM = 1e-9
LAST_DIGITS = 1e-14  # absolute
Wide = NDArray[np.longdouble]
Vectors = dict[str, Wide]


def outputs(model: Any, part: Tensor) -> tuple[Tensor, Tensor]:
    """Logits and last hidden states of chunks [chunks, positions, …]."""
    with torch.inference_mode():
        found = model(part, output_hidden_states=True)
    return found.logits, found.hidden_states[-1]


def coarse(model: Any) -> Any:
    """All matrices in steps of a sixteenth of their rows' largest magnitude: damage that shows."""
    for parameter in model.parameters():
        if parameter.dim() > 1:
            step = parameter.data.abs().amax(1, keepdim=True) / 16
            parameter.data = torch.where(step > 0, (parameter.data / step).round() * step, parameter.data)
    return model


def vectors(reference: Tensor, other: Tensor, correct: NDArray[np.int64]) -> Vectors:
    """By position, from logits [chunks, positions, vocabulary] and the next token [chunks, positions − 1]."""
    a, b = (values.double().numpy().astype(np.longdouble) for values in (reference, other))
    log_p, log_q = (values - _log_sum(values) for values in (a, b))
    p, q = np.exp(log_p), np.exp(log_q)
    difference = b - a
    order_a, order_b = (np.argsort(-values, axis=-1, kind="stable")[..., :TOP_K] for values in (a, b))
    nll_p, nll_q = (-np.take_along_axis(v[:, :-1], correct[..., None], -1)[..., 0] for v in (log_p, log_q))
    lengths = np.sqrt((a**2).sum(-1)) * np.sqrt((b**2).sum(-1))
    found = {
        "mean_abs": np.abs(difference).mean(-1),
        "max_abs": np.abs(difference).max(-1),
        "signal": (a**2).sum(-1),
        "noise": (difference**2).sum(-1),
        "cosine": (a * b).sum(-1) / lengths,
        "kl": (p * (log_p - log_q)).sum(-1),
        "kl_reverse": (q * (log_q - log_p)).sum(-1),
        "same": (order_a[..., 0] == order_b[..., 0]).astype(np.longdouble),
        "depth": np.logical_and.accumulate(order_a == order_b, axis=-1).sum(-1).astype(np.longdouble),
        "confidence": p.max(-1),
        "confidence_scored": p.max(-1)[:, :-1],
        "nll_p": nll_p,
        "nll_q": nll_q,
        "delta": np.exp(-nll_q) - np.exp(-nll_p),
    }
    return {name: values.reshape(-1) for name, values in found.items()}


def _log_sum(values: Wide) -> Wide:
    largest = values.max(-1, keepdims=True)
    found: Wide = largest + np.log(np.exp(values - largest).sum(-1, keepdims=True))
    return found


def hidden_vectors(reference: Tensor, other: Tensor, kind: str) -> Vectors:
    a, b = (values.double().numpy().astype(np.longdouble) for values in (reference, other))
    return {
        f"{kind}_mean_abs": np.abs(b - a).mean(-1),
        f"{kind}_max_abs": np.abs(b - a).max(-1),
        f"{kind}_signal": (a**2).sum(-1),
        f"{kind}_noise": ((b - a) ** 2).sum(-1),
        f"{kind}_cosine": (a * b).sum(-1) / np.sqrt((a**2).sum(-1) * (b**2).sum(-1)),
    }


Pair = tuple[np.longdouble, np.longdouble | None]


def mean(x: Wide) -> Pair:
    return x.mean(), np.sqrt(((x - x.mean()) ** 2).sum() / (len(x) - 1) / len(x))


def percentile(x: Wide, share: float) -> Pair:
    place = np.longdouble(share) * (len(x) - 1)
    low = int(np.floor(place))
    rising = np.sort(x)
    high = min(low + 1, len(x) - 1)
    return rising[low] + (rising[high] - rising[low]) * (place - low), None


def decibel(signal: Wide, noise: Wide) -> Pair:
    """The error of a ratio of means: (σ_N²/N² + σ_S²/S² − 2 cov/NS), times (10/ln 10)²."""
    n, s, count = noise.mean(), signal.mean(), len(noise)
    var_n, var_s = (((x - x.mean()) ** 2).sum() / (count - 1) / count for x in (noise, signal))
    cov = ((noise - n) * (signal - s)).sum() / (count - 1) / count
    relative = np.sqrt(var_n / n**2 + var_s / s**2 - 2 * cov / (n * s))
    return 10 * np.log10(signal.sum() / noise.sum()), 10 / np.log(np.longdouble(10)) * relative


def _covariance(q: Wide, p: Wide) -> tuple[np.longdouble, np.longdouble, np.longdouble]:
    """Of the two means: σ_q², σ_p² and their covariance."""
    n = len(q)
    parts = [((x - x.mean()) * (y - y.mean())).sum() / (n - 1) / n for x, y in ((q, q), (p, p), (q, p))]
    return parts[0], parts[1], parts[2]


def ratio(q: Wide, p: Wide) -> Pair:
    var_q, var_p, cov = _covariance(q, p)
    value = np.exp(q.mean()) / np.exp(p.mean())
    return value, value * np.sqrt(var_q + var_p - 2 * cov)


def log_ratio(q: Wide, p: Wide) -> Pair:
    var_q, var_p, cov = _covariance(q, p)
    return np.log(np.exp(q.mean()) / np.exp(p.mean())), np.sqrt(var_q + var_p - 2 * cov)


def gap(q: Wide, p: Wide) -> Pair:
    var_q, var_p, cov = _covariance(q, p)
    a, b = np.exp(q.mean()), np.exp(p.mean())
    return a - b, np.sqrt(a**2 * var_q + b**2 * var_p - 2 * a * b * cov)


def correlation(q: Wide, p: Wide) -> Pair:
    var_q, var_p, cov = _covariance(q, p)
    return cov / np.sqrt(var_q * var_p), None


def root(x: Wide) -> Pair:
    value, error = mean(x**2)
    assert error is not None
    return np.sqrt(value), np.longdouble(0.5) / np.sqrt(value) * error


def perplexity(x: Wide) -> Pair:
    value, error = mean(x)
    assert error is not None
    return np.exp(value), np.exp(value) * error


#: A row a metric, written from the definitions in shared/notes/anchors.md.
INDEPENDENT: dict[str, Callable[[Vectors], Pair]] = {
    "mean_abs_logit_diff": lambda v: mean(v["mean_abs"]),
    "max_abs_logit_diff": lambda v: (v["max_abs"].max(), None),
    "logit_sqnr": lambda v: decibel(v["signal"], v["noise"]),
    "logit_cosine": lambda v: mean(v["cosine"]),
    "kl_mean": lambda v: mean(v["kl"]),
    "kl_median": lambda v: percentile(v["kl"], 0.5),
    "kl_p99": lambda v: percentile(v["kl"], 0.99),
    "kl_p999": lambda v: percentile(v["kl"], 0.999),
    "kl_max": lambda v: (v["kl"].max(), None),
    "kl_reverse_mean": lambda v: mean(v["kl_reverse"]),
    "kl_reverse_p99": lambda v: percentile(v["kl_reverse"], 0.99),
    "kl_reverse_max": lambda v: (v["kl_reverse"].max(), None),
    "top1_agreement": lambda v: (
        v["same"].mean(),
        np.sqrt(v["same"].mean() * (1 - v["same"].mean()) / (len(v["same"]) - 1)),
    ),
    "top_k_agreement": lambda v: mean((v["depth"] == TOP_K).astype(np.longdouble)),
    "top_depth": lambda v: mean(v["depth"]),
    "delta_p_mean": lambda v: mean(v["delta"]),
    "delta_p_rms": lambda v: root(v["delta"]),
    "nll_mean": lambda v: mean(v["nll_q"]),
    "perplexity": lambda v: perplexity(v["nll_q"]),
    "perplexity_ratio": lambda v: ratio(v["nll_q"], v["nll_p"]),
    "ln_perplexity_ratio": lambda v: log_ratio(v["nll_q"], v["nll_p"]),
    "perplexity_diff": lambda v: gap(v["nll_q"], v["nll_p"]),
    "nll_correlation": lambda v: correlation(v["nll_q"], v["nll_p"]),
    "mean_abs_hidden_diff": lambda v: mean(v["hidden_mean_abs"]),
    "max_abs_hidden_diff": lambda v: (v["hidden_max_abs"].max(), None),
    "hidden_sqnr": lambda v: decibel(v["hidden_signal"], v["hidden_noise"]),
    "hidden_cosine": lambda v: mean(v["hidden_cosine"]),
    "max_abs_pooled_diff": lambda v: (v["pooled_max_abs"].max(), None),
    "pooled_cosine": lambda v: mean(v["pooled_cosine"]),
}


class Worst:
    """The largest relative differences, and where."""

    def __init__(self) -> None:
        self.rows: list[tuple[float, str, float, float]] = []

    def add(self, name: str, ours: float | None, theirs: np.longdouble | None) -> None:
        if (ours is None) != (theirs is None):
            raise SystemExit(f"{name}: {ours} here, {theirs} there")
        if ours is None or theirs is None:
            return
        apart = abs(np.longdouble(ours) - theirs)
        self.rows.append((float(apart / abs(theirs)) if theirs else float(apart), name, ours, float(theirs)))


def check(found: dict[str, Estimate], v: Vectors, worst: Worst, label: str) -> None:
    for name, estimate in found.items():
        value, error = INDEPENDENT[name](v)
        worst.add(f"{label} {name}", estimate.value, value)
        worst.add(f"{label} {name} ±", estimate.se, error)


def check_buckets(found: tuple[Bucket, ...], v: Vectors, worst: Worst, label: str) -> int:
    """How many estimates were looked at."""
    seen = 0
    for bucket in found:
        inside, scored = (
            (v[name] >= bucket.low) & ((v[name] < bucket.high) | (bucket.high == CONFIDENCES[-1]))
            for name in ("confidence", "confidence_scored")
        )
        part = {name: v[name][inside] for name in ("kl", "same")}
        part |= {name: v[name][scored] for name in ("nll_p", "nll_q")}
        check(bucket.estimates, part, worst, f"{label} {bucket.low}–{bucket.high}")
        seen += len(bucket.estimates)
    return seen


def main() -> None:
    source = catalog.locate("pydoc-llama")
    folder = catalog.CATALOG[source.name].folder
    text = evaluation.evaluation_text(source)[0]
    ids = AutoTokenizer.from_pretrained(folder)(text, verbose=False)["input_ids"][:TOKENS]
    chunks = torch.tensor(ids).view(-1, CONTEXT)

    def load(dtype: torch.dtype = torch.float32) -> Any:
        return AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval()

    base, worst = load(), Worst()
    makers: dict[str, Callable[[], Any]] = {
        "bf16": lambda: load(torch.bfloat16),
        "fp16": lambda: load(torch.float16),
        "coarse": lambda: coarse(load()),
    }
    given, told = set[str](), 0
    for name, make in makers.items():
        model, comparison, parts = make(), Comparison({name: Candidate()}), list[Vectors]()
        for start in range(0, len(chunks), BATCH):
            part = chunks[start : start + BATCH]
            (logits, hidden), (other, other_hidden) = outputs(base, part), outputs(model, part)
            targets = torch.cat([part[:, 1:], torch.full_like(part[:, :1], -100)], 1).flatten()
            numbers = torch.arange(start, start + len(part)).repeat_interleave(CONTEXT)
            comparison.add_logits(logits.flatten(0, 1), {name: other.flatten(0, 1)}, targets, chunks=numbers)
            vector = vectors(logits, other, part[:, 1:].numpy())
            for kind, (a, b) in {
                "hidden": (hidden.flatten(0, 1), other_hidden.flatten(0, 1)),
                "pooled": (hidden.mean(1), other_hidden.mean(1)),
            }.items():
                comparison.add_hidden(a, {name: b}, kind)
                vector |= hidden_vectors(a, b, kind)
            parts.append(vector)
        positions = comparison.candidates[name].positions()
        v = {field: np.concatenate([part[field] for part in parts]) for field in parts[0]}
        found = estimates(positions)
        given |= set(found)
        check(found, v, worst, name)
        for field, values in percentiles(positions).items():
            independent = v["delta" if field == "delta_p" else field]
            for share, value in zip(PERCENTILES, values, strict=True):
                worst.add(f"{name} {field} at {100 * share:g} %", value, percentile(independent, share)[0])
        told += check_buckets(buckets(positions), v, worst, name)
    worst.rows.sort(reverse=True)
    beyond = [row for row in worst.rows if row[0] > AIM]
    wrong = [row for row in beyond if abs(row[2] - row[3]) > LAST_DIGITS]
    print(f"{len(ids):,} tokens, {', '.join(makers)}: {len(worst.rows)} numbers, {told} of them in buckets")
    print("the farthest apart: relative and absolute difference, statistic, qfund's, independent")
    for apart, name, ours, theirs in worst.rows[: len(beyond) + 3]:
        print(f"  {apart:.1e}  {abs(ours - theirs):.1e}  {name:32} {ours:.12g}  {theirs:.12g}")
    missing = [name for name in METRICS if name not in given]
    print(f"metrics that were not given: {', '.join(missing) or 'none'}")
    within = len(worst.rows) - len(beyond)
    print(f"{within} within {AIM:.0e} relative, {len(beyond) - len(wrong)} more within {LAST_DIGITS:.0e} absolute")
    print(f"largest relative difference but for those: {worst.rows[len(beyond)][0] if not wrong else wrong[0][0]:.1e}")
    sys.exit(bool(wrong or missing))


if __name__ == "__main__":
    main()
