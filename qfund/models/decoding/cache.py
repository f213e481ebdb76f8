"""transformers' own cache, whose layers round what is written to them.

Only ``update`` differs from the layers that a model's config asks for, so that any model whose attention reads what
``update`` gives back reads rounded keys and values.
"""

from typing import Any, NamedTuple

from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer, LinearAttentionLayer

from qfund.core.errors import UnsupportedModel
from qfund.models.decoding.rounding import Rounder, rounders, unfit
from qfund.precisions.caches import KV_FORMATS


class _Rounding:
    """Mixed into a layer of transformers'.

    With no window, tokens are rounded as they are written. With one, they stay as they are until there are as many, and
    are rounded together after the forward that brought the last of them: every position then reads what transformers'
    ``QuantizedCache`` would give it, as long as no forward brings more than ``window`` at once.
    """

    keys: Any
    values: Any

    def prepare(self, kv: tuple[str, str], first: int, window: int, total: int | None) -> None:
        self.kv, self.first, self.window, self.total = kv, first, window, total
        self.rounders: list[tuple[Rounder, Rounder]] = []
        self.seen = self.fresh = self.token_bytes = 0

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **more: Any) -> tuple[Tensor, Tensor]:
        begin, count = self.seen, key_states.shape[-2]
        if not self.seen:
            self._begin(key_states, value_states)
        self.seen += count
        plain = max(0, min(count, self.first - begin))
        if not self.window:
            key_states, value_states = self._rounded(key_states, value_states, plain, count)
        found: tuple[Tensor, Tensor] = super().update(key_states, value_states, *args, **more)  # type: ignore[misc]
        if self.window:
            self.fresh += count - plain
        while self.window and self.fresh >= self.window:
            end = self.keys.shape[-2] - self.fresh + self.window
            self.keys, self.values = self._rounded(self.keys, self.values, end - self.window, end)
            self.fresh -= self.window
        if self.total is not None and self.seen >= self.total:  # nothing reads it any more
            self.keys = self.values = None
        return found

    def get_seq_length(self) -> int:
        return self.seen

    def _rounded(self, keys: Tensor, values: Tensor, begin: int, end: int) -> tuple[Tensor, Tensor]:
        """[batch, heads, tokens, size] with the tokens of that range rounded, each sequence by itself."""
        if begin >= end:
            return keys, values
        found = keys.clone(), values.clone()
        for part, made, place in zip((keys, values), found, (0, 1), strict=True):
            _, heads, _, size = part.shape
            for row, rounders_of_row in enumerate(self.rounders):
                matrix = part[row, :, begin:end].transpose(0, 1).reshape(end - begin, heads * size)
                rounded = rounders_of_row[place](matrix)
                made[row, :, begin:end] = rounded.reshape(end - begin, heads, size).transpose(0, 1)
        return found

    def _kept(self) -> int:
        """Tokens; a sliding layer has forgotten some, each of which took as much as one that it keeps."""
        window = getattr(self, "sliding_window", None)
        return self.seen if window is None else min(self.seen, window - 1)

    def sizes(self) -> tuple[int, int]:
        """Bytes of the tokens that are kept of the first sequence: as computed, and as stored: codes and scales, and
        tokens that stay as they were computed."""
        kept, first = self._kept(), min(self.first, self.seen)
        plain = self.fresh + max(0, first - (self.seen - kept))
        stored, rounded = plain * self.token_bytes, self.seen - first - self.fresh
        if rounded:
            for rounder in self.rounders[0]:
                scale = KV_FORMATS[rounder.name].tensor_bytes
                stored += (rounder.stored - scale) * (kept - plain) // rounded + scale
        return kept * self.token_bytes, stored

    def _begin(self, *given: Tensor) -> None:
        """
        Raises:
            UnsupportedModel: groups that do not divide what a token has.
        """
        self.rounders = [rounders(*self.kv) for _ in range(len(given[0]))]
        self.token_bytes = sum(part[0, :, 0].nbytes for part in given)
        for part, rounder in zip(given, self.rounders[0], strict=True):
            if why := unfit(rounder, part.shape[1] * part.shape[3], self.window, self.first):
                raise UnsupportedModel(why, "Choose another KV precision.")


class _Full(_Rounding, DynamicLayer):
    pass


class _Sliding(_Rounding, DynamicSlidingWindowLayer):
    pass


def plain(config: Any) -> DynamicCache:
    """The cache that transformers makes for this config.

    Raises:
        UnsupportedModel: a config that names no layers.
    """
    try:
        found: DynamicCache = DynamicCache(config=config)
    except AttributeError as error:
        raise UnsupportedModel(
            f"{type(config).__name__} names no layers with keys and values: {error}.",
            "Choose a model with attention, such as pydoc-llama.",
        ) from error
    return found


def rounding(
    config: Any, keys: str, values: str, first: int = 0, window: int = 0, total: int | None = None
) -> DynamicCache:
    """The cache that transformers makes for this config, with every layer's writing rounded.

    Where a text of ``total`` tokens is read and no more, each layer lets its keys and values go after the last of them.

    Raises:
        UnsupportedModel: no layers, or one of another kind than those that keep keys and values, named; a window for
            recent tokens that a sliding layer forgets before it is full.
    """
    cache: Any = plain(config)
    layers: list[Any] = []
    for layer in cache.layers:
        made: _Full | _Sliding
        if type(layer) is DynamicLayer:
            made = _Full()  # type: ignore[no-untyped-call]
        elif type(layer) is DynamicSlidingWindowLayer:
            if window and window >= layer.sliding_window:
                raise UnsupportedModel(
                    f"Layers of this model forget all but {layer.sliding_window - 1} tokens, before {window} are "
                    "together to be rounded.",
                    "Choose a smaller window.",
                )
            made = _Sliding(layer.sliding_window)
        elif type(layer) is LinearAttentionLayer:  # a state, and no keys or values
            layers.append(layer)
            continue
        else:
            raise UnsupportedModel(
                f"A {type(layer).__name__} of transformers' cache cannot be rounded.", "Choose another model."
            )
        made.prepare((keys, values), first, window, total)
        layers.append(made)
    if not any(isinstance(layer, _Rounding) for layer in layers):
        raise UnsupportedModel("This model keeps states and no keys and values.", "Choose another model.")
    cache.layers = layers
    found: DynamicCache = cache
    return found


class _FullAt(DynamicLayer):
    """A layer of a cache as a forward sees it that begins at some token, whatever was written since."""

    def __init__(self, layer: _Full, begin: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._layer, self._begin = layer, begin

    def update(self, *args: Any, **more: Any) -> tuple[Tensor, Tensor]:
        return self._layer.update(*args, **more)

    def get_seq_length(self) -> int:
        return self._begin


class _SlidingAt(DynamicSlidingWindowLayer):
    """The same of one that forgets."""

    def __init__(self, layer: _Sliding, begin: int) -> None:
        super().__init__(layer.sliding_window)
        self._layer, self.cumulative_length = layer, begin

    def update(self, *args: Any, **more: Any) -> tuple[Tensor, Tensor]:
        return self._layer.update(*args, **more)


def beginning_at(cache: DynamicCache, begin: int) -> DynamicCache:
    """The same cache for a forward whose first token is the one after so many.

    Raises:
        UnsupportedModel: a state beside keys and values, which only one forward after the other can carry on.
    """
    seen: Any = DynamicCache()
    for layer in cache.layers:
        if not isinstance(layer, _Full | _Sliding):
            raise UnsupportedModel(
                "Its layers carry on states beside keys and values, so a text is not read in pieces here.",
                "Choose another KV precision.",
            )
        seen.layers.append(_FullAt(layer, begin) if isinstance(layer, _Full) else _SlidingAt(layer, begin))
    found: DynamicCache = seen
    return found


class Sizes(NamedTuple):
    """Bytes of the keys and values that are kept of a sequence of ``tokens`` tokens: as they were computed, and as they
    are stored."""

    tokens: int
    computed: int
    stored: int


def sizes(cache: DynamicCache) -> Sizes:
    """Of the first sequence."""
    rounding = [layer for layer in cache.layers if isinstance(layer, _Rounding)]
    computed, stored = zip(*(layer.sizes() for layer in rounding), strict=True)
    return Sizes(max(layer.seen for layer in rounding), sum(computed), sum(stored))
