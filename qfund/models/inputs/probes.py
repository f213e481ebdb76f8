"""Inputs for figures that do not depend on what is read: of random tokens, without a tokenizer."""

from typing import Any

import torch
from torch import Tensor

from qfund.checkpoints.checkpoint import Checkpoint
from qfund.inputs import pictures
from qfund.models.inputs.batch import Batch, decoder_start, shifted_right
from qfund.models.inputs.pixels import pixel_values
from qfund.models.inputs.tokenizer import position_limits
from qfund.models.tasks import Task, read_config


def probe(checkpoint: Checkpoint, task: Task, tokens: int) -> Batch:
    """One example of ``tokens`` random tokens (fewer where the model reads no more) and of a picture, as the task reads
    them, always the same: for figures that do not depend on what is read. It needs no tokenizer.

    Raises:
        UnsupportedModel: an image processor that cannot be used, a decoder whose first token is not named.
    """
    config = read_config(checkpoint)
    arguments: dict[str, Tensor] = {}
    if task.reads != "text":
        arguments["pixel_values"] = pixel_values(checkpoint, [pictures.draw()[0].image], config)[0]
    if task.reads == "pictures":
        return Batch(arguments)
    ids = _random_ids(config, min([tokens, *position_limits(config)]))
    if checkpoint.architecture == "VisionEncoderDecoderModel":
        return Batch(arguments | {"decoder_input_ids": shifted_right(ids, decoder_start(checkpoint, config))})
    arguments["input_ids"] = ids
    if task.reads == "text" and task.name != "causal language model":
        arguments["attention_mask"] = torch.ones_like(ids)
    if task.reads == "text" and getattr(config, "is_encoder_decoder", False) and task.gives != "labels":
        arguments["decoder_input_ids"] = shifted_right(ids, decoder_start(checkpoint, config))
    return Batch(arguments)


def _random_ids(config: Any, count: int) -> Tensor:
    """[1, count]: no padding, and no end of the text but at the end, where some classifiers look for it."""
    text = config.get_text_config()
    ends = getattr(text, "eos_token_id", None)
    ends = ends if isinstance(ends, list) else [ends]
    vocabulary = getattr(text, "vocab_size", None) or 256  # CANINE has none and reads characters
    taken = [token for token in (*ends, getattr(text, "pad_token_id", None)) if isinstance(token, int)]
    ids = torch.randint(0, vocabulary, (1, count), generator=torch.Generator().manual_seed(0))
    free = next((token for token in range(vocabulary) if token not in taken), 0)
    ids = ids.masked_fill(torch.isin(ids, torch.tensor(taken, dtype=ids.dtype)), free)
    if count > 1 and isinstance(ends[0], int) and 0 <= ends[0] < vocabulary:
        ids[0, -1] = ends[0]
    return ids
