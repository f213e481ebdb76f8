"""How much memory measuring a model takes, from its headers alone: what a machine of a cluster must have left for it.

It is a bound to plan by and no measurement. A process may hold models up to ``SHARE`` of what is planned for it, as
``QFUND_MODEL_BUDGET_GIB`` is of a machine's memory; the rest is for Python, its libraries and activations.
"""

import re
from collections import Counter
from typing import Any

from qfund.checkpoints import catalog, checkpoint, hub
from qfund.checkpoints.checkpoint import Checkpoint
from qfund.core.request import Request
from qfund.precisions.table import PRECISIONS

#: Of the memory of a process, what its models may take (``qfund.models.cache.default_budget``).
SHARE = 0.6
#: Bytes that every measurement is given at least.
LEAST = 2 * 1024**3
_ITEM = {"float64": 8, "float32": 4, "bfloat16": 2, "float16": 2}
#: Of a part that is walked through, at once: as it was read, in a base dtype, and in a candidate's form.
_FORMS = 3
_LAYER = re.compile(r"^(.*?\.\d+)\.")


def whole(request: Request) -> int:
    """Bytes for a measure that holds the reference and one candidate at a time.

    Raises:
        QfundError: the model is not there, or its headers cannot be read.
    """
    found = _headers(request)
    elements = sum(tensor.elements for tensor in found.tensors.values())
    stored = sum(tensor.bytes for tensor in found.tensors.values())
    names = [getattr(request, "reference", None) or "fp32", *getattr(request, "precisions", ())]
    items = [_item(name) for name in names]
    return _with_the_rest(max(stored, elements * items[0]) + elements * max(items[1:], default=items[0]))


def streamed(request: Request) -> int:
    """Bytes for a measure that walks over the checkpoint, one layer after another. Raises as ``whole``."""
    parts: Counter[str] = Counter()
    for name, tensor in _headers(request).tensors.items():
        layer = _LAYER.match(name)
        parts[layer[1] if layer else name] += tensor.elements
    return _with_the_rest(_FORMS * _ITEM["float32"] * max(parts.values(), default=0))


def _item(name: str) -> int:
    row = PRECISIONS.get(name)
    return _ITEM.get(row.dtype or "", 4) if row is not None else 4


def _with_the_rest(models: int) -> int:
    return max(LEAST, int(models / SHARE))


def _headers(request: Request) -> Checkpoint:
    source = catalog.locate(request.model, request.revision)
    if source.folder is not None:
        return checkpoint.read_headers(source.folder)
    return hub.read_headers(source.name, source.revision, _silent)[0]


def _silent(*_: Any) -> None:
    pass
