"""A checkpoint's tokenizer, and how many tokens its model knows and reads at once."""

from dataclasses import dataclass
from typing import Any

from qfund.checkpoints.checkpoint import Checkpoint
from qfund.core.errors import InvalidInput, UnsupportedModel
from qfund.inputs.chunks import Tokens
from qfund.inputs.texts import InputRequest
from qfund.models.inputs.opening import UNLIMITED, open_tokenizer
from qfund.models.tasks import read_config

#: Longest chunk unless the request asks for another.
DEFAULT_CONTEXT = 512

_LIMITS = ("max_position_embeddings", "n_positions", "max_seq_len", "max_target_positions")
# Positions start after the padding index in these, so that many rows of the position table are not usable.
_OFFSET_POSITIONS = (
    "roberta",
    "xlm-roberta",
    "camembert",
    "xlm-roberta-xl",
    "roberta-prelayernorm",
    "xmod",
    "ibert",
    "longformer",
    "luke",
    "lilt",
    "layoutlmv3",
    "markuplm",
    "altclip_text_model",
    "mpnet",
    "data2vec-text",
    "esm",
    "prophetnet",
)


@dataclass(frozen=True, slots=True)
class Reader:
    """How a checkpoint reads texts of any length: its tokenizer, and the most tokens that it reads at once."""

    tokenizer: Any
    longest: int | None
    config: Any

    def ids(self, text: str, longest: int | None = None) -> list[int]:
        """As the tokenizer gives them, special tokens included; cut by the tokenizer to at most ``longest``.

        Raises:
            InvalidInput: no token at all.
            UnsupportedModel: a tokenizer that belongs to another model.
        """
        cut = {} if longest is None else {"truncation": True, "max_length": longest}
        found: list[int] = _called(self.tokenizer, text, **cut)["input_ids"]
        if not found:
            raise InvalidInput("The tokenizer makes no token of this text.", "Write something else.")
        vocabulary_size(self.tokenizer, self.config, found)
        return found

    def special_at_end(self, ids: list[int]) -> bool:
        """Whether the last one is special: what the tokenizer puts after a text."""
        return ids[-1] in self.tokenizer.all_special_ids


def reader(checkpoint: Checkpoint) -> Reader:
    """Raises ``UnsupportedModel`` where there is no tokenizer."""
    config, tokenizer = read_config(checkpoint), open_tokenizer(checkpoint)
    return Reader(tokenizer, longest_context(config, tokenizer), config)


def special_tokens(tokenizer: Any, text: str) -> tuple[list[int], list[int]]:
    """What the tokenizer puts before and after a text."""
    sample = text.strip()[:200]
    bare, whole = (_called(tokenizer, sample, add_special_tokens=added)["input_ids"] for added in (False, True))
    start = next((i for i in range(len(whole) - len(bare) + 1) if whole[i : i + len(bare)] == bare), 0)
    return whole[:start], whole[start + len(bare) :]


def _called(tokenizer: Any, text: str, **more: Any) -> Any:
    """
    Raises:
        InvalidInput: the text holds what the tokenizer has no token for.
    """
    try:
        return tokenizer(text, **more)
    except Exception as error:  # the library has no errors of its own
        raise InvalidInput(
            f"The tokenizer cannot read this text: {str(error).rstrip('.')}.",
            "It has no token for what its vocabulary lacks (unk_token): put the tokenizer beside the weights that they "
            "were trained with, or give a text in its own words."
            if tokenizer.unk_token is None or "unk" in str(error).lower()
            else "Put the tokenizer beside the weights that they were trained with, or give another text.",
        ) from error


def vocabulary_size(tokenizer: Any, config: Any, ids: list[int]) -> int:
    """How many tokens the model knows; 1 where it has no vocabulary (CANINE).

    Raises:
        UnsupportedModel: one of ``ids`` is beyond it, so the tokenizer is another model's.
    """
    size: int | None = getattr(config.get_text_config(), "vocab_size", None)
    if size is not None and max(ids, default=0) >= size:
        token = tokenizer.convert_ids_to_tokens(max(ids))
        raise UnsupportedModel(
            f"The tokenizer makes token {max(ids):,} ({str(token)[:40]!r}) of this text, beyond the model's vocabulary "
            f"of {size:,} (vocab_size in config.json).",
            "Put the tokenizer that belongs to this checkpoint beside it.",
        )
    return size or 1


def encode(tokenizer: Any, text: str) -> Tokens:
    """The tokens of a text without special ones, and the part of the text that each stands for."""
    encoded = _called(tokenizer, text, add_special_tokens=False, return_offsets_mapping=tokenizer.is_fast)
    ids: list[int] = encoded["input_ids"]
    if not tokenizer.is_fast:
        return Tokens(ids, [tokenizer.decode([token]) for token in ids])
    pieces, reached = [], 0
    for token, (start, end) in zip(ids, encoded["offset_mapping"], strict=True):
        # Tokens that split one character share its span: the first shows it, the others only what they decode to. What
        # lies between two spans (a space that a word-piece tokenizer drops) belongs to the token after it.
        pieces.append(text[reached:end] if end > reached else tokenizer.decode([token]) if start < reached else "")
        reached = max(reached, end)
    return Tokens(ids, pieces)


def position_limits(config: Any) -> list[int]:
    """What the config says of the most positions, which may be in several fields, or in none."""
    text = config.get_text_config()
    limits = [getattr(text, name, None) for name in _LIMITS]
    found = [limit for limit in limits if isinstance(limit, int) and limit > 0]
    if found and text.model_type in _OFFSET_POSITIONS:
        further = text.model_type == "prophetnet"  # its decoder looks up the position after each token too
        return [limit - (text.pad_token_id or 0) - 1 - further for limit in found]
    return found


def longest_context(config: Any, tokenizer: Any) -> int | None:
    """The most tokens that both read at once; None where neither has a limit."""
    limits = position_limits(config)
    if tokenizer.model_max_length < UNLIMITED:
        limits.append(tokenizer.model_max_length)
    return min(limits, default=None)


def chunk_length(request: InputRequest, longest: int | None) -> int:
    """Tokens of a chunk, special ones included, where a model reads at most ``longest``.

    Raises:
        InvalidInput: more are asked for.
    """
    if request.context is None:
        return min(longest or DEFAULT_CONTEXT, DEFAULT_CONTEXT)
    if longest is not None and request.context > longest:
        raise InvalidInput(
            f"The model reads at most {longest} tokens at once, not {request.context}.",
            f"Give a context of at most {longest}; longer texts are read in chunks.",
        )
    return request.context
