"""A small report made by hand, consistent in itself, for tests that need one and no model."""

from dataclasses import replace

import numpy as np

from qfund.metrics import Positions, estimates, perplexity_of
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
_ITEMSIZE = {"float32": 4, "bfloat16": 2, "float16": 2, "int8": 1}


def _tensors(precision: str) -> tuple[TensorRow, ...]:
    base = {"bf16": "bfloat16", "fp16": "float16"}.get(precision, "float32")
    shapes = {"model.embed.weight": (50, 8), "model.layers.0.proj.weight": (8, 8), "model.norm.weight": (8,)}
    rows = []
    for name, shape in shapes.items():
        dtype = "int8" if precision == "int8" and "proj" in name else base
        rows.append(TensorRow(name, shape, dtype, int(np.prod(shape)) * _ITEMSIZE[dtype], "weight"))
        if dtype == "int8":
            rows.append(TensorRow(name + ".scale", (8, 1), "float32", 32, "scale"))
    rows.append(TensorRow("lm_head.weight", (50, 8), base, 0, "weight", shared_with="model.embed.weight"))
    rows.append(TensorRow("model.inv_freq", (4,), "float32", 16, "buffer"))
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
    tensors = _tensors(precision)
    dtypes: dict[str, DtypeShare] = {}
    parts = {"weights": 0, "scales": 0, "buffers": 0}
    for row in tensors:
        held = dtypes.get(row.dtype, DtypeShare(0, 0))
        stored = 0 if row.shared_with or row.kind != "weight" else int(np.prod(row.shape))
        dtypes[row.dtype] = DtypeShare(held.parameters + stored, held.bytes + row.bytes)
        parts[row.kind + "s"] += row.bytes
    total = sum(parts.values())
    return PrecisionResult(
        precision=precision,
        footprint_bytes=total,
        predicted_bytes=total,
        transformers_bytes=total,
        parts=parts,
        dtypes=dtypes,
        converted=int(precision == "int8"),
        left=1,
        fidelity=estimates(positions) if noise else {"perplexity": perplexity_of(nll)},
        nonfinite_positions=0,
        forward_seconds=0.1,
        tensors=tensors,
        left_modules=(LeftModule("lm_head", "Linear", "shares its weight with the embedding"),)
        if precision == "int8"
        else (),
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

    noises = {"fp16": 0.002, "bf16": 0.02, "int8": 0.06}
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
        results=tuple(_result(name, noises.get(name, 0.01)) for name in spec.precisions),
        tokens=TokenMap(
            pieces=PIECES,
            chunk_starts=(0,),
            predicts_next=True,
            total=n,
            vocabulary=PIECES,
            reference=alternatives(),
            candidates={
                name: TokenDisagreement(
                    kl=(None, *(round(float(x), 6) for x in random.exponential(noises.get(name, 0.01), n - 1))),
                    mean_abs=(None, *(round(float(x), 6) for x in random.exponential(noises.get(name, 0.01), n - 1))),
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
