"""What is stored of a model: tensors, dtypes, and modules that stayed as they were."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class DtypeShare:
    parameters: int
    bytes: int


@dataclass(frozen=True, slots=True)
class TensorRow:
    """One stored tensor.

    Attributes:
        shape: of what is stored; of a packed weight that is bytes.
        dtype: what one value is: ``"int4"``.
        storage: torch's name of the dtype that holds it: ``"uint8"``.
        logical: the dtype that the module's weight claims to have: ``"float32"``.
        parameters: how many weights it stands for.
        kind: ``"weight"``, ``"buffer"`` or ``"scale"`` (zero-points too).
        shared_with: the tensor whose storage this one uses (a tied weight): bytes and parameters are counted there,
            and are 0 here.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    storage: str
    logical: str
    parameters: int
    bytes: int
    kind: str
    shared_with: str | None = None


@dataclass(frozen=True, slots=True)
class LeftModule:
    """A module that a quantiser left as it was, and why."""

    name: str
    kind: str
    why: str
