"""A text read at once, or in pieces, with a cache that rounds what is written to it."""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from qfund.checkpoints.checkpoint import Checkpoint
from qfund.core.errors import UnsupportedModel
from qfund.models.decoding.cache import beginning_at, rounding
from qfund.models.tasks import Task
from qfund.precisions.caches import kept, parts, waits


def must_cache(found: Checkpoint, task: Task) -> None:
    """
    Raises:
        UnsupportedModel: no decoder that continues a text.
    """
    if task.name != "causal language model":
        raise UnsupportedModel(
            f"{found.architecture} is a {task.name}; a KV cache is measured of decoders that continue a text.",
            "Choose a causal language model, such as pydoc-llama.",
        )


def in_turns(total: int, first: int, window: int) -> list[tuple[int, int]]:
    """Where the pieces of a text begin and end: with a window the first tokens that stay as computed, and then as many
    at a time as wait to be rounded together; all at once without."""
    begins = dict.fromkeys((0, *range(first, total, window))) if window else (0,)
    return list(pairwise((*begins, total)))


def rounded(config: Any, given: Mapping[str, Any], kv: str) -> tuple[DynamicCache, list[dict[str, Any]]]:
    """A cache that rounds like ``kv``, and the arguments of the forwards, one after the other, that read with it.

    One forward reads all, unless tokens wait for each other to be rounded together: then as many at a time as wait, and
    every position reads what it would, had the text been written token by token. The cache of each forward tells it
    where it begins, so that all may stand before the same layer.

    Raises:
        UnsupportedModel: a cache that cannot be rounded, named.
    """
    total, first, window = given["input_ids"].shape[1], kept(kv)[0], waits(kv)
    cache = rounding(config, *parts(kv), first, window, total)
    if len(pieces := in_turns(total, first, window)) > 1:
        return cache, [_piece(given, cache, *piece) for piece in pieces]
    return cache, [dict(given) | {"past_key_values": cache, "use_cache": True}]


def _piece(given: Mapping[str, Any], cache: DynamicCache, begin: int, end: int) -> dict[str, Any]:
    """Tokens ``begin`` to ``end``; a mask [texts, tokens] is of all that came before too."""
    total = given["input_ids"].shape[1]
    found = {
        name: value[:, begin * (name != "attention_mask") : end]
        if isinstance(value, Tensor) and value.shape[1:2] == (total,)
        else value
        for name, value in given.items()
    }
    return found | {"past_key_values": beginning_at(cache, begin), "use_cache": True}


def joined(outputs: list[Any]) -> Any:
    """What the pieces gave, as one forward would: logits [texts, tokens, vocabulary]."""
    if len(outputs) > 1:
        outputs[0].logits = torch.cat([output.logits for output in outputs], 1)
    return outputs[0]
