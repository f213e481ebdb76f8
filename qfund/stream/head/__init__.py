"""What models do with their head's output, so that logits can be made a part of the vocabulary at a time."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

Tail = Callable[[Tensor], Tensor]

#: Heads of at most this many weights are run whole.
WHOLE = 16 * 1024**2
#: Weights of one part.
TILE = 4 * 1024**2


def tiles(vocabulary: int, width: int) -> Iterator[tuple[int, int]]:
    """First token and end of each part of a head [vocabulary, width]."""
    rows = max(64, TILE // width // 64 * 64)  # whole cache lines, and whole blocks of the kernels
    for start in range(0, vocabulary, rows):
        yield start, min(start + rows, vocabulary)


def find_tail(config: Any, before: Tensor, after: Tensor) -> Tail | None:
    """The elementwise function that turns the head's output into the model's logits, bit for bit on this sample; None
    where it is none of those known."""
    for tail in _tails(config):
        if torch.equal(tail(before).double(), after.double()):
            return tail
    return None


def _tails(config: Any) -> Iterator[Tail]:
    text = config.get_text_config()
    scales: list[Tail] = [lambda logits: logits]
    if multiplier := getattr(text, "logit_scale", None):  # Cohere
        scales.append(lambda logits: logits * multiplier)
    if divisor := getattr(text, "logits_scaling", None):  # Granite
        scales.append(lambda logits: logits / divisor)
    yield from scales
    if cap := getattr(text, "final_logit_softcapping", None):  # Gemma 2
        for scale in scales:
            yield lambda logits, scale=scale: torch.tanh(scale(logits) / cap) * cap  # type: ignore[misc]
