"""The shipped model beside llama.cpp's printed tables: ``python -m benchmarks.llama_table [NAME …]``.

Context 256, the second half of each chunk, an fp32 reference, as ``llama-perplexity --kl-divergence`` has it, on
exactly its tokens: 169 chunks, 21,463 positions. Rows of qfund run whole models; statistics are in double precision,
the reference coded in 16 bits as llama.cpp codes it (``llama_coding``). What it printed (ggml 0.25.3 on a CPU) stands
beside the row with rounded inputs, as its kernels multiply; what the decoded weights of its files cost in a plain
forward beside the row of the file. A figure that is off by more than its coding's noise (5e-5) and 3 % is marked, and
the exit status is 1.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import AutoTokenizer

from benchmarks.llama_coding import Table, coded, log_softmax
from qfund.checkpoints import catalog, checkpoint
from qfund.inputs import evaluation
from qfund.models.loading import load
from qfund.precisions.table import PRECISIONS

CONTEXT, BATCH = 256, 8
FIRST = CONTEXT // 2
COLUMNS = ("KLD", "KLD median", "KLD 99 %", "RMS Δp %", "same top %")
NOISE, SHARE = 5e-5, 0.03
#: The mean of a file's KL that its decoded weights alone must give, relative.
EXACT = 1e-4


@dataclass(frozen=True, slots=True)
class Printed:
    """``kernels``: what llama.cpp printed, as in ``COLUMNS``; ``weights``: KL of the file's own weights, mean, median
    and 99 %. ``run`` and ``file``: the rows of qfund that are the same."""

    run: str
    kernels: tuple[float, float, float, float, float]
    file: str
    weights: tuple[float, float, float]


#: shared/data/gguf: llama_table.json and weights_only.json.
PRINTED = {
    "BF16": Printed(
        "bf16_inputs", (1.8e-5, 1.4e-5, 8.7e-5, 0.095, 99.720), "bf16_weights", (7.68758e-6, 6.25940e-6, 3.25690e-5)
    ),
    "Q8_0": Printed(
        "q8_0_inputs", (2.34e-4, 1.89e-4, 1.03e-3, 0.333, 98.910), "q8_0", (8.07813e-5, 6.61837e-5, 3.51602e-4)
    ),
    "Q6_K": Printed(
        "q6_k_inputs", (1.304e-3, 1.077e-3, 5.692e-3, 0.779, 97.470), "q6_k", (8.80352e-4, 7.30882e-4, 3.83310e-3)
    ),
    "Q5_K_M": Printed(
        *("q5_k_m_inputs", (2.348e-3, 1.841e-3, 1.0715e-2, 1.033, 96.459)),
        *("q5_k_m", (1.926740e-3, 1.497251e-3, 8.955226e-3)),
    ),
    "Q4_K_M": Printed(
        *("q4_k_m_inputs", (6.909e-3, 5.213e-3, 3.3618e-2, 1.831, 94.111)),
        *("q4_k_m", (6.473685e-3, 4.865569e-3, 3.147458e-2)),
    ),
    "Q4_0": Printed(
        *("q4_0_mix_inputs", (1.0049e-2, 7.605e-3, 4.7541e-2, 2.221, 92.792)),
        *("q4_0_mix", (9.871794e-3, 7.471987e-3, 4.671207e-2)),
    ),
    "IQ4_XS": Printed(
        *("iq4_xs_mix_inputs", (8.405e-3, 6.384e-3, 4.0625e-2, 2.082, 93.407)),
        *("iq4_xs_mix", (7.970298e-3, 6.032634e-3, 3.861824e-2)),
    ),
    "Q3_K_M": Printed(
        *("q3_k_m_inputs", (1.7755e-2, 1.3262e-2, 9.1878e-2, 2.864, 90.980)),
        *("q3_k_m", (1.7376108e-2, 1.2914423e-2, 8.990746e-2)),
    ),
    "Q2_K": Printed(
        *("q2_k_mix_inputs", (7.4477e-2, 5.6057e-2, 3.61628e-1, 6.133, 81.638)),
        *("q2_k_mix", (7.4086437e-2, 5.5983308e-2, 3.59057971e-1)),
    ),
}


def logits(row: str, folder: Any, chunks: Tensor) -> Iterator[NDArray[np.float64]]:
    """[scored positions of a batch, vocabulary] of the shipped model in a precision."""
    model = load(checkpoint.read(folder), PRECISIONS[row]).model
    with torch.inference_mode():
        for part in chunks.split(BATCH):
            yield model(part).logits[:, FIRST:-1].flatten(0, 1).double().numpy()


def measured(
    row: str, folder: Any, chunks: Tensor, base: list[NDArray[np.float64]], as_llama: bool
) -> dict[str, float]:
    """The statistics of a row, the reference coded as llama.cpp codes it, or exact."""
    table = Table(drop=as_llama)
    for exact, other, part in zip(base, logits(row, folder, chunks), chunks.split(BATCH), strict=True):
        table.add(
            coded(exact) if as_llama else log_softmax(exact), log_softmax(other), part[:, FIRST + 1 :].flatten().numpy()
        )
    return table.rows()


def main() -> None:
    source = catalog.locate("pydoc-llama")
    folder = catalog.CATALOG[source.name].folder
    text, notes = evaluation.evaluation_text(source)
    ids = AutoTokenizer.from_pretrained(folder)(text, verbose=False)["input_ids"]
    count = len(ids) // CONTEXT
    chunks = torch.tensor(ids[: count * CONTEXT]).view(count, CONTEXT)
    base = list(logits("fp32", folder, chunks))
    print(*notes, f"{len(ids):,} tokens, {count} chunks, {count * (CONTEXT - FIRST - 1):,} scored\n", sep="\n")
    print(f"| as llama.cpp runs it | {' | '.join(COLUMNS)} | the file alone: KL mean | median | 99 % |")
    print("|" + "---|" * (len(COLUMNS) + 4))
    off = False
    for name in sys.argv[1:] or PRINTED:
        there = PRINTED[name]
        run, file = measured(there.run, folder, chunks, base, True), measured(there.file, folder, chunks, base, False)
        cells = [name]
        for column, printed in zip(COLUMNS, there.kernels, strict=True):
            bad = bool(abs(run[column] - printed) > NOISE + SHARE * printed)
            cells.append(f"{run[column]:.4g} ({printed:.4g}){'**!**' * bad}")
            off |= bad
        for column, printed in zip(COLUMNS[:3], there.weights, strict=True):
            bad = bool(column == "KLD" and abs(file[column] / printed - 1) > EXACT)
            cells.append(f"{file[column]:.5g} ({file[column] / printed - 1:+.0e}){'**!**' * bad}")
            off |= bad
        print(f"| {' | '.join(cells)} |", flush=True)
    sys.exit(off)


if __name__ == "__main__":
    main()
