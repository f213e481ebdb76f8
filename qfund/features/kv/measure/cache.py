"""transformers' own cache, whose layers round what is written to them.

Only ``update`` differs from the layers that a model's config asks for, so that any model whose attention reads what
``update`` gives back reads rounded keys and values.
"""

from typing import Any

from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer, LinearAttentionLayer

from qfund.core.errors import UnsupportedModel
from qfund.features.kv.measure.rounding import Rounder, rounders, unfit
from qfund.features.memory.request.kv_cache import KV_FORMATS


class _Rounding:
    """Mixed into a layer of transformers'.

    With no window, tokens are rounded as they are written. With one, they stay as they are until there are as many, and
    are rounded together after the forward that brought the last of them: every position then reads what transformers'
    ``QuantizedCache`` would give it, as long as no forward brings more than ``window`` at once.
    """

    keys: Any
    values: Any

    def prepare(self, keys: Rounder, values: Rounder, first: int, window: int) -> None:
        self.rounders, self.first, self.window = (keys, values), first, window
        self.seen = self.fresh = 0

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **more: Any) -> tuple[Tensor, Tensor]:
        begin, count = self.seen, key_states.shape[-2]
        if not self.seen:
            self._must_fit(key_states, value_states)
        self.seen += count
        plain = max(0, min(count, self.first - begin))
        if not self.window:
            given = [
                _rounded(part, plain, count, rounder)
                for part, rounder in zip((key_states, value_states), self.rounders, strict=True)
            ]
            found: tuple[Tensor, Tensor] = super().update(*given, *args, **more)  # type: ignore[misc]
            return found
        found = super().update(key_states, value_states, *args, **more)  # type: ignore[misc]
        self.fresh += count - plain
        while self.fresh >= self.window:
            end = self.keys.shape[-2] - self.fresh + self.window
            self.keys = _rounded(self.keys, end - self.window, end, self.rounders[0])
            self.values = _rounded(self.values, end - self.window, end, self.rounders[1])
            self.fresh -= self.window
        return found

    def stored(self) -> int:
        """Bytes of the tokens that are kept: codes and scales, and those that stay as they were computed. A sliding
        layer has forgotten some, each of which took as much as one that it keeps."""
        kept: int = self.keys.shape[-2]
        first = min(self.first, self.seen)
        plain = self.fresh + max(0, first - (self.seen - kept))
        as_computed: int = plain * (self.keys[0, :, 0].nbytes + self.values[0, :, 0].nbytes) * self.keys.shape[0]
        rounded = self.seen - first - self.fresh
        if not rounded:
            return as_computed
        scales = [KV_FORMATS[rounder.name].tensor_bytes for rounder in self.rounders]
        return as_computed + sum(
            (rounder.stored - scale) * (kept - plain) // rounded + scale
            for rounder, scale in zip(self.rounders, scales, strict=True)
        )

    def _must_fit(self, *given: Tensor) -> None:
        """
        Raises:
            UnsupportedModel: groups that do not divide what a token has.
        """
        for part, rounder in zip(given, self.rounders, strict=True):
            if why := unfit(rounder, part.shape[1] * part.shape[3], self.window, self.first):
                raise UnsupportedModel(why, "Choose another KV precision.")


class _Full(_Rounding, DynamicLayer):
    pass


class _Sliding(_Rounding, DynamicSlidingWindowLayer):
    pass


def _rounded(part: Tensor, begin: int, end: int, rounder: Rounder) -> Tensor:
    """[batch, heads, tokens, size] with the tokens of that range rounded, each sequence by itself."""
    if begin >= end:
        return part
    found = part.clone()
    batch, heads, _, size = part.shape
    for row in range(batch):
        matrix = part[row, :, begin:end].transpose(0, 1).reshape(end - begin, heads * size)
        found[row, :, begin:end] = rounder(matrix).reshape(end - begin, heads, size).transpose(0, 1)
    return found


def rounding(config: Any, keys: str, values: str, first: int = 0, window: int = 0) -> DynamicCache:
    """The cache that transformers makes for this config, with every layer's writing rounded.

    Raises:
        UnsupportedModel: a layer of another kind than those that keep keys and values, named; a window for recent
            tokens that a sliding layer forgets before it is full.
    """
    cache: Any = DynamicCache(config=config)
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
        made.prepare(*rounders(keys, values), first, window)
        layers.append(made)
    if not any(isinstance(layer, _Rounding) for layer in layers):
        raise UnsupportedModel("This model keeps states and no keys and values.", "Choose another model.")
    cache.layers = layers
    found: DynamicCache = cache
    return found


def stored(cache: DynamicCache) -> int:
    """Bytes of the keys and values that were written."""
    return sum(layer.stored() for layer in cache.layers if isinstance(layer, _Rounding))
