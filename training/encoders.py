"""What ``docstring_kinds`` and ``docstring_vectors`` share: tokenizer, size, training loop, and a forward in every
precision."""

import argparse
import json
import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from torch import Tensor
from transformers import DistilBertConfig, PreTrainedTokenizerFast

from qfund.features.outputs.request.classes import ClassesRequest
from qfund.models.forward import run
from qfund.models.inputs import Batch
from qfund.models.opened import opened
from qfund.precisions.table import PRECISIONS

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # on shared cores: several times faster

LONGEST = 128  # tokens that the encoders have positions for; of a longer docstring they read the beginning

VOCABULARY = 2048

PADDING, UNKNOWN, START, END, MASK = "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"

#: In which ``in_precisions`` measures.
MEASURED = ("fp32", "bf16", "fp16", "int8", "int4", "nf4", "mxfp4", "int3", "int2")

#: ``input_ids`` and ``attention_mask`` → the model's output.
Forward = Callable[[dict[str, Tensor]], Any]


def train_tokenizer(texts: Sequence[str]) -> PreTrainedTokenizerFast:
    """WordPiece without upper case, a text between ``[CLS]`` and ``[SEP]``."""
    tokenizer = Tokenizer(models.WordPiece(unk_token=UNKNOWN))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = [PADDING, UNKNOWN, START, END, MASK]
    trainer = trainers.WordPieceTrainer(vocab_size=VOCABULARY, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{START} $A {END}",
        pair=f"{START} $A {END} $B:1 {END}:1",
        special_tokens=[(token, special.index(token)) for token in (START, END)],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PADDING,
        unk_token=UNKNOWN,
        cls_token=START,
        sep_token=END,
        mask_token=MASK,
        model_max_length=LONGEST,
        clean_up_tokenization_spaces=False,
        model_input_names=["input_ids", "attention_mask"],
    )


def configuration(tokenizer: PreTrainedTokenizerFast, dropout: float, **others: Any) -> DistilBertConfig:
    return DistilBertConfig(
        vocab_size=len(tokenizer),
        dim=128,
        hidden_dim=192,
        n_layers=4,
        n_heads=4,
        max_position_embeddings=LONGEST,
        pad_token_id=tokenizer.pad_token_id,
        dropout=dropout,
        attention_dropout=dropout,
        seq_classif_dropout=dropout,
        **others,
    )


def encoded(tokenizer: PreTrainedTokenizerFast, texts: Sequence[str]) -> dict[str, Tensor]:
    """``input_ids`` and ``attention_mask``, [texts, tokens of the longest]."""
    return dict(tokenizer(list(texts), padding=True, truncation=True, return_tensors="pt"))


def lengths(tokenizer: PreTrainedTokenizerFast, texts: Sequence[str]) -> list[int]:
    return [len(ids) for ids in tokenizer(list(texts), truncation=True)["input_ids"]]


def batches(counts: Sequence[int], size: int, generator: np.random.Generator) -> Iterator[list[int]]:
    """Endless batches of indices, each index at most once an epoch; texts of about one length come together, so that
    little is padded."""
    pool = 8 * size
    while True:
        order = generator.permutation(len(counts)).tolist()
        pools = [sorted(order[start : start + pool], key=counts.__getitem__) for start in range(0, len(order), pool)]
        found = [each[start : start + size] for each in pools for start in range(0, len(each) - size + 1, size)]
        yield from (found[number] for number in generator.permutation(len(found)))


def train(
    model: torch.nn.Module,
    loss_of_next: Callable[[], Tensor],
    evaluate: Callable[[], dict[str, float]],
    options: Any,
) -> dict[str, Any]:
    """Train by AdamW, warm up and cosine, as ``options`` (``steps``, ``minutes``, ``evaluate_every``, ``rate``) say.

    ``evaluate`` is called in evaluation mode without gradients. Nothing is chosen by what it finds: the last weights
    are those that ship. Returns the record.
    """
    matrices = [parameter for parameter in model.parameters() if parameter.dim() >= 2]
    vectors = [parameter for parameter in model.parameters() if parameter.dim() < 2]
    optimizer = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": 0.05}, {"params": vectors, "weight_decay": 0.0}],
        lr=options.rate,
        betas=(0.9, 0.98),
        fused=True,
    )
    started, step, running = time.monotonic(), 0, math.nan
    log: list[dict[str, float]] = []
    while True:
        share = max(step / options.steps, (time.monotonic() - started) / 60 / options.minutes)
        if share >= 1 or (step and step % options.evaluate_every == 0):
            model.eval()
            with torch.no_grad():
                log.append({"step": step, "loss": round(running, 4), **evaluate()})
            log[-1]["cpu_minutes"] = round(time.process_time() / 60, 1)
            print(json.dumps(log[-1]), flush=True)
        if share >= 1:
            break
        rate = options.rate * min(1.0, (step + 1) / 50) * (0.03 + 0.97 * 0.5 * (1 + math.cos(math.pi * share)))
        for group in optimizer.param_groups:
            group["lr"] = rate
        model.train()
        loss = loss_of_next()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        running = loss.item() if math.isnan(running) else 0.97 * running + 0.03 * loss.item()
        step += 1
    return {
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "steps": step,
        "batch": options.batch,
        "peak_rate": options.rate,
        "dropout": options.dropout,
        "cpu_minutes": log[-1]["cpu_minutes"],
        "wall_minutes": round((time.monotonic() - started) / 60, 1),
        "torch": torch.__version__,
        "log": log,
    }


def arguments(description: str | None, out: str, steps: int, batch: int, rate: float) -> argparse.ArgumentParser:
    """The options that ``train`` reads, with a script's own defaults."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(out))
    parser.add_argument("--steps", type=int, default=steps)
    parser.add_argument("--minutes", type=float, default=math.inf, help="finish the schedule by then, at the latest")
    parser.add_argument("--evaluate-every", type=int, default=200)
    parser.add_argument("--batch", type=int, default=batch)
    parser.add_argument("--rate", type=float, default=rate)
    parser.add_argument("--dropout", type=float, default=0.1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--measure", action="store_true", help="train nothing: print a row for each precision")
    return parser


def in_precisions(folder: Path) -> Iterator[tuple[str, Forward]]:
    """A trained model in each precision of ``MEASURED``, as qfund loads and runs it."""
    opening = opened(ClassesRequest(str(folder)), MEASURED, (), lambda phase, share: None)
    opening.size(MEASURED)
    for name in MEASURED:
        with opening.loaded([name], lambda phase: None) as [loaded]:
            yield name, forward_of(loaded.model, name)


def forward_of(model: Any, precision: str = "fp32") -> Forward:
    return lambda inputs: run(model, Batch(inputs), PRECISIONS[precision])


def print_row(*cells: object) -> None:
    """One line of a README's table."""
    print(f"| {' | '.join(map(str, cells))} |", flush=True)
