"""qfund's figures beside independent ones: the same tokens, plain transformers forwards, NumPy in float64.

Prints relative differences. Aims: 1e-6 for the fp32 reference's perplexity against a float64 model, 1e-4 for the
differences, KL and perplexities against the independent computation from the same precisions' logits.
"""

import sys
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoModelForCausalLM, AutoTokenizer

from qfund import compare
from qfund.checkpoints import catalog
from qfund.inputs import evaluation

TOKENS, CONTEXT, BATCH = 16_384, 256, 16
Array = NDArray[np.float64]


def logits(model: Any, chunks: torch.Tensor) -> Array:
    with torch.inference_mode():
        return np.concatenate([model(part).logits.double().numpy() for part in chunks.split(BATCH)])


def log_softmax(values: Array) -> Array:
    shifted = values - values.max(-1, keepdims=True)
    result: Array = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    return result


def perplexity(log_p: Array, chunks: torch.Tensor) -> float:
    correct = chunks[:, 1:, None].numpy()
    return float(np.exp(-np.take_along_axis(log_p[:, :-1], correct, -1).mean()))


def int8(model: Any) -> Any:
    """Round every Linear weight outside the head to 8 bits, written independently of qfund.precisions.quantizers."""
    for module in model.model.modules():
        if isinstance(module, torch.nn.Linear):
            weight = module.weight.data.numpy()
            scale = np.abs(weight).max(1, keepdims=True) / np.float32(127.5)
            whole = np.clip(np.rint(weight * (np.float32(1) / scale)), -128, 127)
            module.weight.data = torch.from_numpy((whole * scale).astype(np.float32))
    return model


def main() -> None:
    source = catalog.locate("pydoc-llama")
    folder = catalog.CATALOG[source.name].folder
    text = evaluation.evaluation_text(source)[0]
    ids = AutoTokenizer.from_pretrained(folder)(text, verbose=False)["input_ids"][:TOKENS]
    chunks = torch.tensor(ids).view(-1, CONTEXT)

    def load(dtype: torch.dtype) -> Any:
        return AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval()

    report = compare("pydoc-llama", ["bf16", "fp16", "int8"], max_tokens=TOKENS)
    reference = logits(load(torch.float32), chunks)
    log_p = log_softmax(reference)
    exact = perplexity(log_softmax(logits(load(torch.float64), chunks)), chunks)
    worst = {"reference": 0.0, "candidates": 0.0}

    def row(kind: str, what: str, ours: float, theirs: float) -> None:
        relative = abs(ours - theirs) / abs(theirs)
        worst[kind] = max(worst[kind], relative)
        print(f"  {what:32} {ours:.12g}  {theirs:.12g}  {relative:.1e}")

    print(f"{len(ids)} tokens; columns: qfund, independent, relative difference")
    ours = report.reference.fidelity["perplexity"].value
    row("reference", "fp32 perplexity, fp64 model", ours, exact)
    row("candidates", "fp32 perplexity, same logits", ours, perplexity(log_p, chunks))
    models = {
        "bf16": lambda: load(torch.bfloat16),
        "fp16": lambda: load(torch.float16),
        "int8": lambda: int8(load(torch.float32)),
    }
    for result in report.results:
        other = logits(models[result.precision](), chunks)
        log_q = log_softmax(other)
        difference = np.abs(other - reference)
        independent = {
            "mean_abs_logit_diff": difference.mean(),
            "max_abs_logit_diff": difference.max(),
            "kl_mean": (np.exp(log_p) * (log_p - log_q)).sum(-1).mean(),
            "top1_agreement": (other.argmax(-1) == reference.argmax(-1)).mean(),
            "perplexity": perplexity(log_q, chunks),
            "perplexity_ratio": perplexity(log_q, chunks) / perplexity(log_p, chunks),
        }
        for name, value in independent.items():
            row("candidates", f"{result.precision} {name}", result.fidelity[name].value, float(value))
    print(f"worst: reference {worst['reference']:.1e} (aim 1e-6), candidates {worst['candidates']:.1e} (aim 1e-4)")
    sys.exit(worst["reference"] > 1e-6 or worst["candidates"] > 1e-4)


if __name__ == "__main__":
    main()
