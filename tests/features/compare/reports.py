"""Reports made by hand, consistent in themselves, for tests that need one and no model: a small one, and one with
everything that a report can hold."""

from dataclasses import replace

import numpy as np

from qfund.core import codes
from qfund.core.environment import Environment
from qfund.core.estimate import Estimate
from qfund.core.intervals import Vector
from qfund.core.metrics import chunk_sums
from qfund.core.metrics.estimates import buckets, estimates, percentiles, perplexity_of
from qfund.core.metrics.histogram import Histogram
from qfund.core.metrics.positions import TOP_K, Positions
from qfund.core.model import ModelFacts
from qfund.core.tensors import DtypeShare, LeftModule, TensorRow
from qfund.features.compare.request.report import (
    SCHEMA,
    Alternatives,
    HiddenError,
    NoiseRun,
    PrecisionResult,
    Report,
    TokenDisagreement,
    TokenMap,
)
from qfund.features.compare.request.spec import Spec
from qfund.inputs.facts import InputFacts
from qfund.precisions.precision import STORED, Precision
from qfund.precisions.table import PRECISIONS

PIECES = ("Return", " the", " number", " of", " items", "\n", " in", " a", " list", ".")
_ITEMSIZE = {"float64": 8, "float32": 4, "bfloat16": 2, "float16": 2}


def _tensors(row: Precision) -> tuple[TensorRow, ...]:
    base = row.dtype if row.dtype in _ITEMSIZE else "float32"
    shapes = {"model.embed.weight": (50, 8), "model.layers.0.proj.weight": (8, 8), "model.norm.weight": (8,)}
    rows = []
    for name, shape in shapes.items():
        weights = int(np.prod(shape))
        if row.quantizer and "proj" in name:
            element = row.name.partition("_")[0]
            storage = "int8" if element == "int8" else "uint8"
            rows.append(TensorRow(name, shape, element, storage, base, weights, weights * row.bits // 8, "weight"))
            rows.append(TensorRow(name + ".scale", (8, 1), "float32", "float32", "float32", 0, 32, "scale"))
        else:
            rows.append(TensorRow(name, shape, base, base, base, weights, weights * _ITEMSIZE[base], "weight"))
    rows.append(TensorRow("lm_head.weight", (50, 8), base, base, base, 0, 0, "weight", "model.embed.weight"))
    rows.append(TensorRow("model.inv_freq", (4,), "float32", "float32", "float32", 0, 16, "buffer"))
    return tuple(rows)


def _result(precision: str, noise: float) -> PrecisionResult:
    random = np.random.default_rng(7)
    n = len(PIECES)
    nll = random.uniform(1, 4, n)
    scale = random.uniform(0.5, 2, n) * noise
    positions = Positions(
        mean_abs=scale,
        max_abs=scale * 8,
        kl=scale**2,
        same_top1=(scale < 0.05).astype(float),
        nll_reference=nll,
        nll_candidate=nll + scale,
    )
    table_row = PRECISIONS[precision]
    tensors = _tensors(table_row)
    dtypes: dict[str, DtypeShare] = {}
    parts = {"weights": 0, "scales": 0, "buffers": 0}
    for row in tensors:
        held = dtypes.get(row.dtype, DtypeShare(0, 0))
        dtypes[row.dtype] = DtypeShare(held.parameters + row.parameters, held.bytes + row.bytes)
        parts[row.kind + "s"] += row.bytes
    total = sum(parts.values())
    return PrecisionResult(
        precision=precision,
        footprint_bytes=total,
        predicted_bytes=None if table_row.family == STORED else total,
        transformers_bytes=total,
        parts=parts,
        dtypes=dtypes,
        converted=int(table_row.quantizer is not None),
        left=1,
        fidelity=estimates(positions) if noise else {"perplexity": perplexity_of(nll)},
        nonfinite_positions=0,
        forward_seconds=0.1,
        tensors=tensors,
        converted_modules=("model.layers.0.proj",) if table_row.quantizer else (),
        left_modules=(LeftModule("lm_head", "Linear", "shares its weight with the embedding"),)
        if table_row.quantizer
        else (),
        bits_per_weight=table_row.effective_bits if table_row.quantizer else None,
        differences=Histogram(-12.0, 0.1, tuple(int(x) for x in random.integers(0, 40, 160)), 12) if noise else None,
    )


def make_report(spec: Spec | None = None) -> Report:
    spec = spec or Spec("pydoc-llama")
    random = np.random.default_rng(3)
    n = len(PIECES)

    def alternatives() -> Alternatives:
        probabilities = np.sort(random.dirichlet(np.ones(8), n)[:, :5], axis=1)[:, ::-1]
        tokens = [tuple(int(x) for x in random.permutation(len(PIECES))[:5]) for _ in range(n)]
        return Alternatives(tuple(tokens), tuple(tuple(round(float(p), 4) for p in row) for row in probabilities))

    noises = {row.name: 0.01 * 2.0 ** (8 - row.effective_bits) for row in PRECISIONS.values()}
    noises |= {"fp16": 0.002, "bf16": 0.02, "int8": 0.06}
    return Report(
        schema=SCHEMA,
        qfund="0.1.0",
        created="2026-11-23T12:00:00+00:00",
        spec=spec,
        environment=Environment(
            versions={"torch": "2.13.0+cpu", "transformers": "5.23.0"},
            python="3.11.7",
            platform="Linux",
            device="cpu",
            cpu="AMD EPYC",
            threads=2,
            model_id="sha256:" + "0" * 64,
        ),
        model=ModelFacts("LlamaForCausalLM", "causal language model", 472, {"F32": 1888}),
        input=InputFacts("evaluation text", "0" * 64, n, 1, 256, ("The text was read in 1 chunk of 256 tokens.",)),
        reference=_result(spec.reference, 0.0),
        results=tuple(_result(name, noises[name]) for name in spec.precisions),
        tokens=TokenMap(
            pieces=PIECES,
            chunk_starts=(0,),
            predicts_next=True,
            total=n,
            vocabulary=PIECES,
            reference=alternatives(),
            candidates={name: _disagreement(noises[name], random, alternatives()) for name in spec.precisions},
            detailed=tuple(range(n)),
        ),
        seconds=1.5,
    )


def renamed(report: Report, model: str) -> Report:
    return replace(report, spec=replace(report.spec, model=model))


def _disagreement(noise: float, random: np.random.Generator, alternatives: Alternatives) -> TokenDisagreement:
    """Of the small report: the first position is not finite."""
    n = len(PIECES)
    kl = (None, *(round(float(x), 6) for x in random.exponential(noise, n - 1)))
    mean_abs = (None, *(round(float(x), 6) for x in random.exponential(noise, n - 1)))
    same = tuple(bool(x) for x in random.random(n) < 0.9)
    return disagreement(kl, mean_abs, same, alternatives)


def disagreement(
    kl: tuple[float | None, ...],
    mean_abs: tuple[float | None, ...],
    same: tuple[bool | None, ...],
    alternatives: Alternatives,
) -> TokenDisagreement:
    """Where every position is kept in full; a position of None is not finite."""
    every = [np.nan if value is None else value for value in kl]
    changed = [value is False for value in same]
    return TokenDisagreement(kl, mean_abs, same, alternatives, codes.magnitudes(every), codes.flags(changed))


CHUNKS, LENGTH = 16, 256


def full_report(spec: Spec | None = None, noise: dict[str, float] | None = None) -> Report:
    """The small report with everything else that a measurement can give: 4,096 positions in 16 chunks, intervals,
    percentiles, buckets, sums by chunk, drift along 8 blocks (the last one not finite in FP16) and the noise floor.

    ``noise`` sets how much a candidate's logits are off; twice as much makes four times the KL divergence.
    """
    base = make_report(spec)
    scales = {result.precision: _scale(result.precision) for result in base.results} | (noise or {})
    reference = np.random.default_rng(5).gamma(2.0, 1.4, CHUNKS * LENGTH)
    results = tuple(_measured(result, scales[result.precision], reference) for result in base.results)
    own = {"perplexity": perplexity_of(reference)}
    facts = replace(base.input, tokens=CHUNKS * LENGTH, chunks=CHUNKS, context=LENGTH)
    noises = (
        NoiseRun("threads", "one thread instead of two", 1024, _floor(3e-7, reference)),
        NoiseRun("batch", "one chunk at a time instead of four", 1024, _floor(5e-7, reference)),
        NoiseRun("attention", "eager attention instead of sdpa", 1024, _floor(4e-7, reference)),
        NoiseRun("fp64", "the reference against float64", 1024, _floor(6e-7, reference)),
    )
    return replace(base, results=results, reference=replace(base.reference, fidelity=own), input=facts, noise=noises)


def _scale(precision: str) -> float:
    row = PRECISIONS[precision]
    usual: dict[str, float] = {"fp16": 0.0015, "bf16": 0.012, "int8": 0.009}
    return usual.get(precision, float(0.0002 + 0.9 * 2.0**-row.effective_bits))


def _positions(scale: float, reference: Vector) -> Positions:
    """Plausible: errors are larger in some chunks than in others, and where the reference is undecided."""
    random = np.random.default_rng(11)
    n = len(reference)
    chunk = np.repeat(np.arange(CHUNKS, dtype=np.float64), LENGTH)
    here = scale * np.repeat(random.lognormal(0.0, 0.25, CHUNKS), LENGTH)
    kl = 0.5 * (here * random.gamma(1.2, 0.9, n)) ** 2
    p = np.exp(-reference)
    shift = here * random.normal(0.0, 1.0, n) * (1 - p) + 0.12 * scale**1.5
    candidate = reference + shift
    same = (random.random(n) > 0.9 * here).astype(float)
    return Positions(
        mean_abs=here * random.gamma(20.0, 0.05, n),
        max_abs=here * random.gamma(20.0, 0.25, n),
        kl=kl,
        same_top1=same,
        nll_reference=reference,
        nll_candidate=candidate,
        kl_reverse=kl * random.uniform(0.9, 1.12, n),
        confidence=np.maximum(p, random.beta(1.6, 1.2, n)),
        top_agreed=np.where(same > 0, random.binomial(TOP_K, np.clip(1 - 3 * here, 0, 1), n), 0).astype(float),
        logit_signal=random.uniform(50, 60, n),
        logit_noise=here**2 * random.uniform(40, 60, n),
        logit_cosine=1 - here**2 * random.uniform(0.3, 0.6, n),
        delta_p=np.exp(-candidate) - p,
        chunk=chunk,
        chunk_scored=chunk,
    )


def _measured(result: PrecisionResult, scale: float, reference: Vector) -> PrecisionResult:
    found = _positions(scale, reference)
    return replace(
        result,
        fidelity=estimates(found),
        percentiles=percentiles(found),
        buckets=buckets(found),
        chunks=chunk_sums.of(found),
        drift=tuple(
            _after(block, scale * (1 + 0.6 * block), nonfinite=3 * (result.precision == "fp16" and block == 7))
            for block in range(8)
        ),
    )


def _after(block: int, error: float, nonfinite: int) -> HiddenError:
    return HiddenError(f"model.layers.{block}", error, 1 - error**2 / 2, float(-20 * np.log10(error)), nonfinite)


def _floor(scale: float, reference: Vector) -> dict[str, Estimate]:
    return {name: found for name, found in estimates(_positions(scale, reference)).items() if name != "perplexity"}


def long_tokens(report: Report, count: int, chunk: int = 256) -> Report:
    """The report with a token map of ``count`` positions, of which the first 1,024 and some others are detailed."""
    assert report.tokens is not None
    random = np.random.default_rng(13)
    pieces = tuple(PIECES[i] for i in random.integers(0, len(PIECES), count))
    worst = np.sort(random.choice(np.arange(1024, count), min(96, max(0, count - 1024)), replace=False))
    detailed = tuple(int(i) for i in (*range(min(1024, count)), *worst))
    shares = np.sort(random.dirichlet(np.ones(8), len(detailed))[:, :5], axis=1)[:, ::-1]
    ranks = random.integers(0, len(PIECES), (len(detailed), 5))
    alternatives = Alternatives(
        tuple(tuple(int(x) for x in row) for row in ranks),
        tuple(tuple(round(float(x), 4) for x in row) for row in shares),
    )
    candidates = {}
    for result in report.results:
        kl = _scale(result.precision) ** 2 * random.gamma(0.3, 3.0, count) * (1 + 4 * (random.random(count) < 0.01))
        kl[chunk - 1 :: chunk] = -1.0
        same = random.random(count) > 10 * _scale(result.precision)
        known = [float(f"{kl[i]:.4g}") if kl[i] >= 0 else None for i in detailed]
        candidates[result.precision] = TokenDisagreement(
            kl=tuple(known),
            mean_abs=tuple(known),
            same_top1=tuple(bool(same[i]) if kl[i] >= 0 else None for i in detailed),
            alternatives=alternatives,
            every_kl=codes.magnitudes(kl),
            every_changed=codes.flags(~same & (kl >= 0)),
        )
    tokens = replace(
        report.tokens,
        pieces=pieces,
        chunk_starts=tuple(range(0, count, chunk)),
        total=count,
        reference=alternatives,
        candidates=candidates,
        detailed=detailed,
    )
    return replace(report, tokens=tokens)
