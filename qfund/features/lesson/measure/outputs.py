"""Forwards of one batch in several dtypes, beside float32's."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from qfund.features.lesson.measure.copies import pieces
from qfund.features.lesson.request.notebook import TOP, Output
from qfund.models import forward, inputs, tasks
from qfund.precisions.quantizers.quantizer import dtype_name
from qfund.precisions.table import PRECISIONS


class Forwards:
    """Forwards on one batch, compared with the first."""

    def __init__(self, batch: inputs.Batch, gives: str) -> None:
        self._batch = batch
        self._name = "last_hidden_state" if gives == "hidden states" else "logits"
        self._returned: dict[str, str] = {}
        self._problems: dict[str, str] = {}
        self.outputs: dict[str, Tensor] = {}

    def add(self, model: Any, dtype: str) -> None:
        """Run a model; float32 must run, any other dtype may be one that a kernel does not know."""
        try:
            output = self._forward(model, dtype)
        except RuntimeError as error:
            if dtype == "float32":
                raise
            self._problems[dtype] = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
            return
        self.outputs[dtype] = output
        self._returned[dtype] = dtype_name(output.dtype)

    def _forward(self, model: Any, dtype: str) -> Tensor:
        row = next(row for row in PRECISIONS.values() if row.dtype == dtype and row.quantizer is None)
        output: Tensor = getattr(forward.run(model, self._batch, row), self._name)
        return output

    def difference(self, model: Any, dtype: str) -> float | None:
        """The largest |difference| of another model's outputs from those that are known in this dtype."""
        if dtype not in self.outputs:
            return None
        return _distance(self._forward(model, dtype), self.outputs[dtype]).largest

    def results(self, values: dict[str, tuple[float, ...]]) -> tuple[Output, ...]:
        reference = self.outputs["float32"]
        results = []
        for dtype in ("float32", "bfloat16", "float16"):
            if dtype in self._problems:
                results.append(Output(dtype, problem=self._problems[dtype]))
                continue
            found = _distance(self.outputs[dtype], reference)
            compared = dtype != "float32"
            results.append(
                Output(
                    dtype=dtype,
                    returned=self._returned[dtype],
                    values=values[dtype],
                    mean=found.mean if compared else None,
                    largest=found.largest if compared else None,
                    nonfinite=found.nonfinite,
                )
            )
        return tuple(results)


def shown_values(
    outputs: dict[str, Tensor], prepared: inputs.Prepared, gives: str, task: tasks.Task
) -> tuple[int | None, tuple[str, ...], dict[str, tuple[float, ...]]]:
    """The position that is shown, names of the few largest outputs of float32 there, and their values by dtype."""
    reference = outputs["float32"][0].double()
    position = None
    if reference.dim() > 1:
        position = 0 if reference.dim() > 2 else reference.shape[0] - 1
        reference = reference[position].flatten()
    count = min(TOP, reference.numel())
    order = reference.nan_to_num().topk(count).indices if gives == "logits" else torch.arange(count)
    # In their own order where all are shown.
    order = order.sort().values if count == reference.numel() else order
    names = tuple(_name(prepared, task, gives, int(place)) for place in order)
    values = {}
    for dtype, output in outputs.items():
        flat = output[0] if position is None else output[0][position].flatten()
        values[dtype] = tuple(flat[order].double().tolist())
    return position, names, values


def _name(prepared: inputs.Prepared, task: tasks.Task, gives: str, place: int) -> str:
    if gives == "hidden states":
        return f"dimension {place}"
    if task.gives == "tokens" and prepared.tokenizer is not None:
        return repr(str(prepared.tokenizer.decode([place])))
    return f"class {place}"


class _Distance(NamedTuple):
    """Mean and largest |difference|, None where no pair is finite, and how many pairs are not."""

    mean: float | None
    largest: float | None
    nonfinite: int


def _distance(one: Tensor, other: Tensor) -> _Distance:
    total, largest, count = 0.0, 0.0, 0
    for left, right in pieces(one, other):
        change = (left.double() - right.double()).abs()
        change = change[change.isfinite()]
        if change.numel():
            total += change.sum().item()
            largest = max(largest, change.max().item())
            count += change.numel()
    nonfinite = one.numel() - count
    return _Distance(total / count, largest, nonfinite) if count else _Distance(None, None, nonfinite)
