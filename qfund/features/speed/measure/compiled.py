"""torch.compile: a model whose steps are compiled, with a cache of a fixed size."""

import os
import shutil
import time
from typing import Any

import torch
from transformers import StaticCache

from qfund.checkpoints import catalog
from qfund.features.speed.measure.writing import ModelWriter
from qfund.models.environment import wait_for
from qfund.models.forward import arithmetic, explained
from qfund.precisions.precision import Precision


def missing() -> str | None:
    """Why nothing can be compiled here; None where it can."""
    if catalog.device().startswith("cuda") or shutil.which(os.environ.get("CXX", "g++")) or shutil.which("clang++"):
        return None
    return "torch.compile needs a C++ compiler, and there is none here. Install g++ or clang, or set CXX."


class CompiledWriter(ModelWriter):
    """Prompts are read as they are; each step goes through one compiled graph a batch.

    Attributes:
        compile_seconds: what the first steps took longer than those after them.
    """

    def __init__(self, model: Any, row: Precision, vocabulary: int, longest: int) -> None:
        super().__init__(model, row, vocabulary)
        self._longest = longest
        self._plain, self._compiled = model.forward, torch.compile(model.forward, dynamic=False)
        self.compile_seconds = 0.0

    def _new_cache(self, batch: int) -> Any:
        return StaticCache(config=self._model.config, max_cache_len=self._longest)

    def compile(self, batches: tuple[int, ...]) -> None:
        """Compile the step of each batch. Raises as ``begin`` and ``step``."""
        for batch in batches:
            self.begin(batch, 2)
            taken = []
            for _ in range(4):  # the first ones guard, trace and compile
                started = time.perf_counter()
                self.step()
                taken.append(time.perf_counter() - started)
            self.compile_seconds += max(0.0, sum(taken) - len(taken) * min(taken))

    def step(self) -> None:
        self._call(self._compiled, self._next)

    @torch.inference_mode()
    def _call(self, forward: Any, ids: torch.Tensor) -> None:
        with explained(self._model, self._row, "write compiled"), arithmetic(self._row):
            logits = forward(input_ids=ids, past_key_values=self._cache, **self._options).logits
        self._next = logits[:, -1:].argmax(-1)
        wait_for(logits.device)
