"""A model that writes greedily with a cache, a step at a time, as ``turns`` asks it to."""

import inspect
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from qfund.core.errors import UnsupportedModel
from qfund.models.counting import stored_bytes
from qfund.models.decoding.cache import plain
from qfund.models.environment import wait_for
from qfund.models.forward import arithmetic, explained
from qfund.precisions.precision import Precision

_ATTENTION = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu


def _attention_flops(query: Any, key: Any, value: Any, *_: Any, **more: Any) -> int:
    """Of shapes."""
    return int(sdpa_flop_count(query, key, value))


class ModelWriter:
    """Prompts are random tokens, the same for every model: what is written does not matter, only how long it takes.

    Raises:
        UnsupportedModel: it takes no cache of transformers'.
    """

    def __init__(self, model: Any, row: Precision, vocabulary: int) -> None:
        accepted = inspect.signature(model.forward).parameters
        if "past_key_values" not in accepted:
            raise UnsupportedModel(
                f"{type(model).__name__} takes no cache of keys and values, so its writing is not timed.",
                "Choose a causal language model with attention, such as pydoc-llama.",
            )
        self._model, self._row, self._vocabulary = model, row, vocabulary
        self._options: dict[str, Any] = {"use_cache": True}
        if "logits_to_keep" in accepted:
            self._options["logits_to_keep"] = 1
        self._cache: Any = None
        self._next = torch.empty(0)
        self._cache_bytes = dict[tuple[int, int], int]()

    def begin(self, batch: int, depth: int) -> None:
        generator = torch.Generator().manual_seed(0)
        ids = torch.randint(self._vocabulary, (batch, depth), generator=generator)
        self._cache = self._new_cache(batch)
        self._run(ids.to(self._model.device))
        parts = [getattr(layer, name, None) for layer in self._cache.layers for name in ("keys", "values")]
        self._cache_bytes[batch, depth] = sum(part.nbytes for part in parts if isinstance(part, torch.Tensor))

    def step(self) -> None:
        self._run(self._next)

    def _new_cache(self, batch: int) -> Any:
        return plain(self._model.config)

    @torch.inference_mode()
    def _run(self, ids: torch.Tensor) -> None:
        with explained(self._model, self._row, "write"), arithmetic(self._row):
            logits = self._model(input_ids=ids, past_key_values=self._cache, **self._options).logits
        self._next = logits[:, -1:].argmax(-1)
        wait_for(logits.device)

    @property
    def stored_bytes(self) -> int:
        """Of weights, scales and buffers."""
        return stored_bytes(self._model)

    @property
    def read_bytes(self) -> int:
        """That each step reads: all but the embeddings, of which a row is taken, unless the output head multiplies by
        the same weight."""
        embedding, head = self._model.get_input_embeddings(), self._model.get_output_embeddings()
        weight = embedding._parameters.get("weight")
        if weight is None or (head is not None and head._parameters.get("weight") is weight):
            return self.stored_bytes
        return self.stored_bytes - stored_bytes(embedding)

    def cache_bytes(self, batch: int, depth: int) -> int:
        """Of keys and values after such prompts."""
        if (batch, depth) not in self._cache_bytes:
            self.begin(batch, depth)
        return self._cache_bytes[batch, depth]

    def flops(self, batch: int, depth: int) -> int:
        """Operations of reading such prompts, as torch counts those of matrix products and attention, without its
        causal half; of attention on a CPU too, of which torch by itself knows nothing."""
        with FlopCounterMode(display=False, custom_mapping={_ATTENTION: _attention_flops}) as counter:
            self.begin(batch, depth)
        return int(counter.get_total_flops())
