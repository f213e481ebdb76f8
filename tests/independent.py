"""What qfund reports, computed another way: plain transformers and NumPy. Nothing here imports qfund.

Models are run in batches of the same shapes as qfund's (whole chunks together, a shorter last one alone): the kernels
of a CPU round differently for other shapes, in 16 bits by more than the differences that are measured.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from PIL import Image
from tokenizers import Tokenizer
from torch import Tensor
from transformers.pytorch_utils import Conv1D

Array = NDArray[np.float64]
Ints = NDArray[np.int64]

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16, "fp64": torch.float64}


def load(folder: Path, dtype: torch.dtype) -> Any:
    architecture = json.loads((folder / "config.json").read_text())["architectures"][0]
    model = getattr(transformers, architecture).from_pretrained(folder, dtype=dtype).eval()
    if dtype == torch.float16:
        # As qfund lays them out, for speed: the same values, summed by another kernel in another order.
        for module in model.modules():
            if isinstance(module, Conv1D):
                module.weight.data = module.weight.data.T.contiguous().T
    return model


def rounded(model: Any, left: Sequence[str]) -> Any:
    """A float model whose Linear, Conv1D and convolution weights and stacked experts, but those of the modules
    ``left``, went through 8 bits.

    One scale a row of [out, in], the largest magnitude over 127.5; in float32, half to even.
    """
    for name, module in model.named_modules():
        if name in left:
            continue
        if isinstance(module, Conv1D):
            module.weight.data = _in_8_bits(module.weight.detach().numpy().T).T
        elif isinstance(module, torch.nn.Linear | torch.nn.Conv1d | torch.nn.Conv2d):
            module.weight.data = _in_8_bits(module.weight.detach().numpy())
        elif type(module).__name__.endswith("Experts"):
            for key in ("gate_up_proj", "down_proj"):
                experts = [_in_8_bits(expert) for expert in getattr(module, key).detach().numpy()]
                getattr(module, key).data = torch.stack(experts)
    return model


def _in_8_bits(weight: Any) -> Tensor:
    """[out, …] there and back."""
    rows = weight.reshape(len(weight), -1)
    scale = np.abs(rows).max(1, keepdims=True) / np.float32(127.5)
    whole = np.clip(np.rint(rows * (np.float32(1) / scale)), -128, 127)
    return torch.from_numpy((whole * scale).astype(np.float32).reshape(weight.shape))


def tokens(folder: Path, text: str) -> list[int]:
    """The bare tokens, by the tokenizers library from the file."""
    found: list[int] = Tokenizer.from_file(str(folder / "tokenizer.json")).encode(text, add_special_tokens=False).ids
    return found


@dataclass(frozen=True, slots=True)
class Batch:
    """Arguments of one forward, and the correct output of each position, −1 where there is none."""

    arguments: dict[str, Tensor]
    targets: Ints


def batches(rows: Sequence[Sequence[int]], size: int) -> Iterator[Tensor]:
    """Rows of tokens, ``size`` together where they are as long as the first; a shorter last one is by itself."""
    full = [row for row in rows if len(row) == len(rows[0])]
    groups = [full[start : start + size] for start in range(0, len(full), size)]
    return (torch.tensor(group) for group in [*groups, rows[len(full) :]] if group)


def none(shape: Sequence[int]) -> Ints:
    return np.full(tuple(shape), -1)


def next_tokens(ids: Tensor) -> Ints:
    shifted = none(ids.shape)
    shifted[:, :-1] = ids[:, 1:].numpy()
    return shifted


def causal(ids: Tensor) -> Batch:
    return Batch({"input_ids": ids, "attention_mask": torch.ones_like(ids)}, next_tokens(ids))


def sequence_to_sequence(ids: Tensor) -> Batch:
    """transformers itself makes the decoder's input from labels."""
    return Batch({"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids}, ids.numpy())


def masked(ids: Tensor, special: Sequence[int], mask: int) -> Batch:
    """Positions 3, 10, 17 … of each row, but special tokens, are masked and predicted; only they are compared."""
    hidden, targets = ids.clone(), none(ids.shape)
    for row in range(ids.shape[0]):
        for place in range(3, ids.shape[1], 7):
            if int(ids[row, place]) not in special:
                targets[row, place] = int(ids[row, place])
                hidden[row, place] = mask
    return Batch({"input_ids": hidden, "attention_mask": torch.ones_like(ids)}, targets)


def plain(ids: Tensor) -> Batch:
    return Batch({"input_ids": ids, "attention_mask": torch.ones_like(ids)}, none(ids.shape))


def pixels(images: Sequence[Image.Image], size: int) -> Tensor:
    """[pictures, channels, height, width] in −1 … 1, resized by Pillow."""
    stack = np.stack([np.asarray(image.resize((size, size)), np.float32) for image in images])
    return torch.from_numpy(np.ascontiguousarray((stack / np.float32(127.5) - 1).transpose(0, 3, 1, 2)))


@dataclass(frozen=True, slots=True)
class Outputs:
    """Logits or hidden states [positions, width] in float64, the target of each position, pooled outputs if any."""

    values: Array
    targets: Ints
    pooled: Array | None


@torch.inference_mode()
def run(model: Any, inputs: Sequence[Batch], only_targets: bool = False) -> Outputs:
    """Every batch through the model. ``only_targets`` keeps the positions that have one."""
    values, targets, pooled = [], [], []
    for batch in inputs:
        floats = {name: part.to(model.dtype) for name, part in batch.arguments.items() if part.is_floating_point()}
        output = model(**{**batch.arguments, **floats})
        found = output.logits if getattr(output, "logits", None) is not None else output.last_hidden_state
        if found.dim() == 4:  # convolutions: [pictures, channels, height, width]
            found = found.flatten(1)
        wanted = batch.targets.reshape(-1)
        flat = found.reshape(-1, found.shape[-1]).double().numpy()
        if len(wanted) != len(flat):  # a classifier's: one row an example
            wanted = none(flat.shape[:1])
        values.append(flat[wanted >= 0] if only_targets else flat)
        targets.append(wanted[wanted >= 0] if only_targets else wanted)
        if getattr(output, "pooler_output", None) is not None:
            pooled.append(output.pooler_output.flatten(1).double().numpy())
    return Outputs(np.concatenate(values), np.concatenate(targets), np.concatenate(pooled) if pooled else None)


def log_softmax(logits: Array) -> Array:
    shifted = logits - logits.max(-1, keepdims=True)
    found: Array = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    return found


@dataclass(frozen=True, slots=True)
class Number:
    value: float
    se: float | None
    n: int


def mean(values: Array) -> Number:
    return Number(float(values.mean()), float(values.std(ddof=1) / np.sqrt(len(values))), len(values))


def exp_of_mean(values: Array) -> Number:
    with np.errstate(over="ignore"):
        value = float(np.exp(values.mean()))
    return Number(value, float(value * values.std(ddof=1) / np.sqrt(len(values))), len(values))


def decibel(signal: Array, noise: Array) -> dict[str, Number]:
    """10·log10 of all signal over all noise, under ``""``; nothing where there is no noise. Its error is that of a
    ratio of two means, by the delta method."""
    ratio = noise.sum() / signal.sum()
    if not ratio:
        return {}
    error = (noise - ratio * signal).std(ddof=1) / np.sqrt(len(noise)) / signal.mean()
    return {"": Number(float(-10 * np.log10(ratio)), float(10 / np.log(10) / ratio * error), len(noise))}


def quantile(values: Array, share: float) -> Number:
    return Number(float(np.percentile(values, 100 * share)), None, len(values))


LEADING = 10


def of_logits(reference: Outputs, candidate: Outputs) -> dict[str, Number]:
    """Every statistic of logits; positions where either is not finite are left out."""
    good = np.isfinite(reference.values).all(-1) & np.isfinite(candidate.values).all(-1)
    p, q, targets = reference.values[good], candidate.values[good], reference.targets[good]
    log_p, log_q = log_softmax(p), log_softmax(q)
    kl = (np.exp(log_p) * (log_p - log_q)).sum(-1)
    reverse = (np.exp(log_q) * (log_q - log_p)).sum(-1)
    found = {
        "mean_abs_logit_diff": mean(np.abs(q - p).mean(-1)),
        "max_abs_logit_diff": Number(float(np.abs(q - p).max()), None, len(p)),
        "logit_cosine": mean(cosine(p, q)),
        "kl_mean": mean(kl),
        "kl_median": quantile(kl, 0.5),
        "kl_p99": quantile(kl, 0.99),
        "kl_p999": quantile(kl, 0.999),
        "kl_max": Number(float(kl.max()), None, len(p)),
        "kl_reverse_mean": mean(reverse),
        "kl_reverse_p99": quantile(reverse, 0.99),
        "kl_reverse_max": Number(float(reverse.max()), None, len(p)),
        "top1_agreement": mean((p.argmax(-1) == q.argmax(-1)).astype(np.float64)),
    }
    found |= {f"logit_sqnr{name}": row for name, row in decibel((p**2).sum(-1), ((q - p) ** 2).sum(-1)).items()}
    if p.shape[-1] >= LEADING:
        first = (np.argsort(-logits, axis=-1, kind="stable")[:, :LEADING] for logits in (p, q))
        depth = np.cumprod(np.equal(*first), -1).sum(-1)
        found["top_depth"] = mean(depth.astype(np.float64))
        found["top_k_agreement"] = mean((depth == LEADING).astype(np.float64))
    known = np.flatnonzero(targets >= 0)
    if len(known):
        found |= of_correct(-log_p[known, targets[known]], -log_q[known, targets[known]])
    return found


def of_correct(nll_p: Array, nll_q: Array) -> dict[str, Number]:
    """Of −ln p(correct)."""
    moved = np.exp(-nll_q) - np.exp(-nll_p)
    squared, rms = mean(moved**2), float(np.sqrt((moved**2).mean()))
    one, other = exp_of_mean(nll_q), exp_of_mean(nll_p)
    with np.errstate(invalid="ignore"):  # a perplexity may be infinite
        # σ² = (∂/∂mean_q)² σ_q² + (∂/∂mean_p)² σ_p² + 2 (∂/∂mean_q)(∂/∂mean_p) cov, all of means.
        slopes, covariance = np.array([one.value, -other.value]), np.cov(nll_q, nll_p) / len(nll_q)
        variance = float(slopes @ covariance @ slopes)
    assert squared.se is not None
    return {
        "delta_p_mean": mean(moved),
        "delta_p_rms": Number(rms, squared.se / (2 * rms) if rms else 0.0, len(moved)),
        "nll_mean": mean(nll_q),
        "perplexity": one,
        "perplexity_ratio": exp_of_mean(nll_q - nll_p),
        "ln_perplexity_ratio": mean(nll_q - nll_p),
        "perplexity_diff": Number(one.value - other.value, max(0.0, variance) ** 0.5, len(nll_q)),
        "nll_correlation": Number(float(np.corrcoef(nll_q, nll_p)[0, 1]), None, len(nll_q)),
    }


def perplexity(outputs: Outputs) -> Number:
    known = np.flatnonzero((outputs.targets >= 0) & np.isfinite(outputs.values).all(-1))
    return exp_of_mean(-log_softmax(outputs.values[known])[np.arange(len(known)), outputs.targets[known]])


def cosine(a: Array, b: Array) -> Array:
    found: Array = (a * b).sum(-1) / np.sqrt((a * a).sum(-1) * (b * b).sum(-1))
    return found


def of_hidden(reference: Outputs, candidate: Outputs) -> dict[str, Number]:
    p, q = reference.values, candidate.values
    found = {
        "mean_abs_hidden_diff": mean(np.abs(q - p).mean(-1)),
        "max_abs_hidden_diff": Number(float(np.abs(q - p).max()), None, len(p)),
        "hidden_cosine": mean(cosine(p, q)),
    }
    found |= {f"hidden_sqnr{name}": row for name, row in decibel((p**2).sum(-1), ((q - p) ** 2).sum(-1)).items()}
    if reference.pooled is not None and candidate.pooled is not None:
        worst = float(np.abs(candidate.pooled - reference.pooled).max())
        found["max_abs_pooled_diff"] = Number(worst, None, len(reference.pooled))
        found["pooled_cosine"] = mean(cosine(reference.pooled, candidate.pooled))
    return found


def gpt2(folder: Path, ids: Ints) -> Array:
    """GPT-2 written out in float64: logits [positions, vocabulary] of one row of tokens."""
    stored = load(folder, torch.float64).state_dict()
    config = json.loads((folder / "config.json").read_text())
    weights = {name.removeprefix("transformer."): tensor.numpy() for name, tensor in stored.items()}

    def norm(x: Array, name: str) -> Array:
        centerd = x - x.mean(-1, keepdims=True)
        scaled = centerd / np.sqrt((centerd**2).mean(-1, keepdims=True) + config["layer_norm_epsilon"])
        result: Array = scaled * weights[f"{name}.weight"] + weights[f"{name}.bias"]
        return result

    def linear(x: Array, name: str) -> Array:
        result: Array = x @ weights[f"{name}.weight"] + weights[f"{name}.bias"]
        return result

    n, heads = len(ids), config["n_head"]
    hidden: Array = weights["wte.weight"][ids] + weights["wpe.weight"][:n]
    later = np.triu(np.full((n, n), -np.inf), 1)
    for layer in range(config["n_layer"]):
        name = f"h.{layer}"
        mixed = linear(norm(hidden, f"{name}.ln_1"), f"{name}.attn.c_attn")
        query, key, value = (part.reshape(n, heads, -1).swapaxes(0, 1) for part in np.split(mixed, 3, -1))
        scores = query @ key.swapaxes(1, 2) / np.sqrt(query.shape[-1]) + later
        attended = (np.exp(log_softmax(scores)) @ value).swapaxes(0, 1).reshape(n, -1)
        hidden = hidden + linear(attended, f"{name}.attn.c_proj")
        wide = linear(norm(hidden, f"{name}.ln_2"), f"{name}.mlp.c_fc")
        active = 0.5 * wide * (1 + np.tanh(np.sqrt(2 / np.pi) * (wide + 0.044715 * wide**3)))
        hidden = hidden + linear(active, f"{name}.mlp.c_proj")
    result: Array = norm(hidden, "ln_f") @ weights["wte.weight"].T
    return result
