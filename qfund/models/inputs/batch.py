"""What a forward takes, and what it should predict."""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from qfund.checkpoints.checkpoint import Checkpoint
from qfund.core.errors import UnsupportedModel
from qfund.inputs.facts import InputFacts
from qfund.models import configs
from qfund.models.tasks import read_config

#: In place of a target: no token is to be predicted here.
IGNORED = -100


@dataclass(frozen=True, slots=True)
class Batch:
    """Some examples for one forward.

    Attributes:
        arguments: of the model's forward, each [examples, …].
        targets: [examples, positions], the correct token of each, −100 where there is none; None for heads without.
        scored: [examples, positions], which positions are compared; None compares all.
        chunks: [examples], the number of each one's chunk (a picture is one) over the whole input.
    """

    arguments: dict[str, Tensor]
    targets: Tensor | None = None
    scored: Tensor | None = None
    chunks: Tensor = field(default_factory=lambda: torch.zeros(1, dtype=torch.int64))


@dataclass(frozen=True, slots=True)
class Prepared:
    """``pieces`` is the text of each token in the order of the positions; empty where outputs are not tokens.
    ``texts_of_chunks`` is the number of the text that each chunk belongs to."""

    batches: tuple[Batch, ...]
    facts: InputFacts
    pieces: tuple[str, ...]
    chunk_starts: tuple[int, ...]
    predicts_next: bool
    tokenizer: Any
    texts_of_chunks: tuple[int, ...] = (0,)


def shifted_left(ids: Tensor) -> Tensor:
    """The next token of each position; the last one has none."""
    return torch.cat([ids[:, 1:], torch.full_like(ids[:, :1], IGNORED)], 1)


def shifted_right(ids: Tensor, start: int) -> Tensor:
    """A decoder's input: every token one place later, so that position i predicts token i."""
    return torch.cat([torch.full_like(ids[:, :1], start), ids[:, :-1]], 1)


def decoder_start(checkpoint: Checkpoint, config: Any = None) -> int:
    """The token that a decoder's input starts with; ``config`` saves reading the checkpoint's again.

    Raises:
        UnsupportedModel: none is named.
        CorruptCheckpoint: the generation_config.json cannot be read.
    """
    config = read_config(checkpoint) if config is None else config
    generation = configs.generation(checkpoint.folder)
    owners = (config, config.get_text_config(decoder=True), generation)
    for name in ("decoder_start_token_id", "bos_token_id", "pad_token_id"):
        for owner in owners:
            value = getattr(owner, name, None)
            if isinstance(value, int):
                return value
    raise UnsupportedModel("The config names no token for the decoder to start with.", "Set decoder_start_token_id.")
