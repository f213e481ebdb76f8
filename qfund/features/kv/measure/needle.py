"""A needle in the context: a passage that no text foretells, asked for again at its end."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

#: Tokens of a passage, how many of them ask for the rest, and how far into the context passages stand.
LENGTH, CUE = 8, 3
DEPTHS = (0.05, 0.3, 0.55, 0.8)


def needles(ids: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Contexts [1, tokens], each with a passage in the place of some tokens, the text's own drawn at random, and its
    beginning again at the end; and the tokens [LENGTH − CUE] that then belong there, of which the context holds all but
    the last. Nothing where the text is too short for that."""
    count = ids.shape[1]
    if count < 4 * LENGTH:
        return
    generator = torch.Generator().manual_seed(0)
    for depth in DEPTHS:
        passage = ids[0, torch.randint(count, (LENGTH,), generator=generator)]
        made = ids.clone()
        begin = int(depth * (count - 2 * LENGTH))
        made[0, begin : begin + LENGTH] = passage
        made[0, count - LENGTH + 1 :] = passage[:-1]
        yield made, passage[CUE:]


def recalled(ids: Tensor, read: Callable[[Tensor], Tensor]) -> tuple[int, int]:
    """How many tokens of the passages come back as the likeliest ones, and of how many; ``read`` gives logits [tokens,
    vocabulary]."""
    right = asked = 0
    for context, wanted in needles(ids):
        likeliest = read(context)[-len(wanted) :].argmax(-1).cpu()
        right += int((likeliest == wanted).sum())
        asked += len(wanted)
    return right, asked
