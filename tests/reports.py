"""A small report made by hand, consistent in itself, for tests that need one and no model."""

from dataclasses import replace

import numpy as np

from qfund.metrics import Positions, estimates, perplexity_of
from qfund.precisions import PRECISIONS, STORED, Precision
from qfund.report import (
    SCHEMA,
    Alternatives,
    DtypeShare,
    Environment,
    Histogram,
    InputFacts,
    LeftModule,
    ModelFacts,
    PrecisionResult,
    Report,
    TensorRow,
    TokenDisagreement,
    TokenMap,
)
from qfund.spec import Spec

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
            candidates={
                name: TokenDisagreement(
                    kl=(None, *(round(float(x), 6) for x in random.exponential(noises[name], n - 1))),
                    mean_abs=(None, *(round(float(x), 6) for x in random.exponential(noises[name], n - 1))),
                    same_top1=tuple(bool(x) for x in random.random(n) < 0.9),
                    alternatives=alternatives(),
                )
                for name in spec.precisions
            },
        ),
        seconds=1.5,
    )


def renamed(report: Report, model: str) -> Report:
    return replace(report, spec=replace(report.spec, model=model))
