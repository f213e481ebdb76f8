"""The shipped model beside llama.cpp's printed table: ``python -m benchmarks.llama_table``.

Context 256, the second half of each chunk, an fp32 reference, as ``llama-perplexity --kl-divergence`` has it; plain
transformers forwards, statistics in double precision, and llama.cpp's coding of the reference imitated beside none. Its
printed digits (shared/notes/embedded-models.md) are those of a model of the same shape that was trained before the one
that ships, and of a few thousand more tokens: digits cannot be equal. What can be compared is what does not depend on
the very weights: the coding's own noise, and how far apart the formats and the meanings of "bf16" are.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

from benchmarks.llama_coding import Table, coded, log_softmax
from qfund.checkpoints import catalog
from qfund.inputs import evaluation

CONTEXT, BATCH = 256, 8
FIRST = CONTEXT // 2
#: As printed there, of the earlier model: n, PPL, ln ratio, KLD mean, max, 99 %, median, RMS Δp %, same top %.
PRINTED = {
    "F16": (24_511, 34.3803, -1e-6, None, 0.000058, 0.000032, 0.0, 0.011, 99.967),
    "BF16": (24_511, 34.3869, 0.00019, 0.000016, 0.000322, 0.000079, 0.000014, 0.086, 99.678),
    "Q8_0": (24_511, 34.3878, 0.00022, 0.000224, 0.00345, 0.00094, 0.000185, 0.308, 98.715),
    "Q4_0": (24_511, 34.991, 0.0176, 0.0203, 0.391, 0.082, 0.0170, 3.06, 88.94),
}
#: Plain PyTorch's there: KLD mean, RMS Δp %, same top %.
MEANINGS = {
    "bf16 weights only": (7.2e-6, 0.058, 99.78),
    "BF16": (1.63e-5, 0.087, 99.63),
    "whole model .to(bf16)": (1.13e-4, 0.272, 98.90),
    "the same, head in fp32": (7.5e-5, 0.184, 99.29),
    "logits rounded to bf16": (3.8e-5, 0.200, 98.98),
    "autocast bf16": (7.0e-5, 0.235, 98.97),
}
#: KLD max, 99.9 % and min of the fp32 model against itself, coded, there.
CODING = (5.77e-5, 4.75e-5, -5.61e-5)
COLUMNS = ("PPL", "ln ratio", "KLD", "KLD max", "KLD 99 %", "KLD median", "RMS Δp %", "same top %")
Round = Callable[[Tensor], Tensor]


@dataclass(frozen=True, slots=True)
class Way:
    """A candidate: how matrices and the inputs of linear layers are rounded, or what else is done to the model."""

    name: str
    weights: Round | None = None
    inputs: Round | None = None
    whole: torch.dtype | None = None
    head: bool = False  # kept in fp32 where the whole model is not
    logits: Round | None = None
    autocast: bool = False


def cast(dtype: torch.dtype) -> Round:
    return lambda values: values.to(dtype).float()


def q8_0(values: Tensor) -> Tensor:
    """Blocks of 32: round(x / d), d = largest / 127 kept in fp16."""
    blocks = values.reshape(-1, 32)
    scale = blocks.abs().amax(1, keepdim=True) / 127
    whole = torch.where(scale > 0, blocks / torch.where(scale > 0, scale, 1), 0).round()
    return (whole * scale.half().float()).reshape(values.shape)


def q4_0(values: Tensor) -> Tensor:
    """Blocks of 32: codes 0 … 15 for −8 … 7, d = the value of largest magnitude / −8 kept in fp16."""
    blocks = values.reshape(-1, 32)
    scale = blocks.gather(1, blocks.abs().argmax(1, keepdim=True)) / -8
    whole = torch.where(scale != 0, blocks / torch.where(scale != 0, scale, 1), 0)
    codes = (whole + 8.5).floor().clamp(0, 15)
    return ((codes - 8) * scale.half().float()).reshape(values.shape)


HALF, BRAIN = cast(torch.float16), cast(torch.bfloat16)
WAYS = (
    Way("F32"),
    Way("F16", HALF, HALF),
    Way("BF16", BRAIN, BRAIN),
    Way("Q8_0", q8_0, q8_0),
    Way("Q4_0", q4_0, q8_0),
    Way("bf16 weights only", BRAIN),
    Way("whole model .to(bf16)", whole=torch.bfloat16),
    Way("the same, head in fp32", whole=torch.bfloat16, head=True),
    Way("logits rounded to bf16", logits=BRAIN),
    Way("autocast bf16", autocast=True),
)


def build(way: Way, folder: Any) -> Any:
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    if way.weights is not None:
        for parameter in model.parameters():  # tied ones come once; norms stay, as in GGUF
            if parameter.dim() > 1:
                parameter.data = way.weights(parameter.data)
    if way.inputs is not None:
        rounded = way.inputs
        for module in model.modules():
            if isinstance(module, torch.nn.Linear):
                module.register_forward_pre_hook(lambda _, given: (rounded(given[0]), *given[1:]))
    if way.whole is not None:
        model = model.to(way.whole)
        if way.head:  # the rounded weight, multiplied in fp32
            head = model.lm_head
            head.weight = torch.nn.Parameter(head.weight.data.float())
            head.register_forward_pre_hook(lambda _, given: (given[0].float(),))
    return model


def logits(way: Way, model: Any, chunks: Tensor) -> Iterator[Tensor]:
    """[chunks of a batch, scored positions, vocabulary] in fp32."""
    where: AbstractContextManager[Any] = torch.autocast("cpu", torch.bfloat16) if way.autocast else nullcontext()
    with torch.inference_mode(), where:
        for part in chunks.split(BATCH):
            found = model(part).logits[:, FIRST:-1].float()
            yield found if way.logits is None else way.logits(found)


def measured(way: Way, folder: Any, chunks: Tensor, base: list[Tensor]) -> tuple[dict[str, float], dict[str, float]]:
    """With the reference coded as llama.cpp does, and exact."""
    tables = Table(drop=True), Table(drop=False)
    for other, reference, part in zip(logits(way, build(way, folder), chunks), base, chunks.split(BATCH), strict=True):
        correct = part[:, FIRST + 1 :].reshape(-1).numpy()
        exact, log_q = (values.flatten(0, 1).double().numpy() for values in (reference, other))
        log_q = log_softmax(log_q)
        tables[0].add(coded(exact), log_q, correct)
        tables[1].add(log_softmax(exact), log_q, correct)
    return tables[0].rows(), tables[1].rows()


def _row(name: str, values: dict[str, float | None]) -> None:
    formats = ("10.4f", "11.6f", "11.7f", "10.6f", "10.6f", "11.6f", "9.4f", "10.3f")
    cells = []
    for column, form in zip(COLUMNS, formats, strict=True):
        value = values.get(column)
        cells.append(" " * int(form.partition(".")[0]) if value is None else f"{value:{form}}")
    print(f"{name:36}" + " ".join(cells), flush=True)


def main() -> None:
    source = catalog.locate("pydoc-llama")
    folder = catalog.CATALOG[source.name].folder
    text, notes = evaluation.evaluation_text(source)
    ids = AutoTokenizer.from_pretrained(folder)(text, verbose=False)["input_ids"]
    count = len(ids) // CONTEXT
    chunks = torch.tensor(ids[: count * CONTEXT]).view(count, CONTEXT)
    base = list(logits(WAYS[0], build(WAYS[0], folder), chunks))
    print(
        *notes, f"{len(ids):,} tokens, {count} chunks of {CONTEXT}, {count * (CONTEXT - FIRST - 1):,} scored", sep="\n"
    )
    print(f"{'':36}{'PPL':>10} {'ln ratio':>11} {'KLD':>11} {'max':>10} {'99 %':>10} {'median':>11}", end="")
    print(f" {'RMS Δp %':>9} {'same top':>10}")
    found: dict[str, tuple[dict[str, float], dict[str, float]]] = {}
    for way in WAYS:
        found[way.name] = measured(way, folder, chunks, base)
        for label, table in zip(("coded as llama.cpp", "exact"), found[way.name], strict=True):
            _row(f"{way.name}, {label}", dict(table))
        if way.name in PRINTED:
            _row("  llama.cpp, the earlier model", dict(zip(COLUMNS, PRINTED[way.name][1:], strict=True)))
    own = found["F32"][0]
    print("\nfp32 against itself, coded: what the coding alone makes of no difference at all")
    for name, column, there in zip(("max", "99.9 %", "min"), ("KLD max", "KLD 99.9 %", "KLD min"), CODING, strict=True):
        print(f"  KLD {name:7} {own[column]: .2e}   the earlier model: {there: .2e}   ratio {own[column] / there:.2f}")
    print("\nfp32 PPL ± and what the coding moves it by:", end=" ")
    print(f"{own['PPL']:.4f} ± {own['PPL ±']:.4f}; the reference read back {_base_gap(own):+.1e} (relative)")
    print("\nmeanings of bf16, exact: KLD, RMS Δp %, same top %, each over the earlier model's; and KLD over BF16's")
    brain = found["BF16"][1]["KLD"]
    for name, there_all in MEANINGS.items():
        exact = found[name][1]
        ours = exact["KLD"], exact["RMS Δp %"], exact["same top %"]
        parts = "  ".join(f"{a:.4g} ({a / b:.2f})" for a, b in zip(ours, there_all, strict=True))
        print(f"  {name:26}{parts:48} {exact['KLD'] / brain:5.2f} (there {there_all[0] / MEANINGS['BF16'][0]:.2f})")
    off = abs(own["KLD max"] / CODING[0] - 1)
    sys.exit(bool(off > 0.25))


def _base_gap(own: dict[str, float]) -> float:
    """The reference's perplexity as read back over its own, less 1: the model is the same."""
    return float(np.expm1(-own["ln ratio"]))


if __name__ == "__main__":
    main()
