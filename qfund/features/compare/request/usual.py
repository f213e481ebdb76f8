"""What a model is compared in where nobody names precisions: with what it is stored in, and candidates that keep the
rest of the model in that. The checkpoint's headers tell; no weight is read."""

from qfund.checkpoints import catalog, checkpoint
from qfund.core.errors import QfundError
from qfund.features.compare.request.spec import DEFAULT_CANDIDATES, Spec
from qfund.precisions.precision import STORED
from qfund.precisions.table import PRECISIONS

_CASTS = {"F64": "fp64", "F32": "fp32", "BF16": "bf16", "F16": "fp16"}
_AS_STORED = next(row.name for row in PRECISIONS.values() if row.family == STORED)
#: Weights alone in fewer bits, the rest in 16.
ON_16_BITS = ("int8_bf16", "int4_bf16", "nf4_bf16")


def reference(model: str, revision: str | None = None) -> str:
    """The precision that holds most bytes of the checkpoint; ``"fp32"`` where that cannot be read, which measuring it
    will then say."""
    try:
        source = catalog.locate(model, revision)
        if source.folder is not None:
            found = checkpoint.read_headers(source.folder)
        else:
            from qfund.checkpoints import hub  # the Hub's client takes as long to import as all the rest

            found, _ = hub.read_headers(source.name, source.revision, lambda phase, share: None)
    except QfundError:
        return Spec(model).reference
    if found.quantization is not None:
        return _AS_STORED
    held: dict[str, int] = {}
    for tensor in found.tensors.values():
        held[tensor.dtype] = held.get(tensor.dtype, 0) + tensor.bytes
    return _CASTS.get(max(held, key=lambda dtype: held[dtype], default=""), Spec(model).reference)


def candidates(reference: str) -> tuple[str, ...]:
    """Those that stand beside a reference of that name."""
    if reference == _AS_STORED:
        return (_AS_STORED,)
    row = PRECISIONS.get(reference)
    return ON_16_BITS if row is not None and row.bits == 16 else DEFAULT_CANDIDATES
