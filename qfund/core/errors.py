"""Everything that qfund raises on purpose.

QfundError                  message + remedy; ``exit_code`` for the command line
├── UsageError              the request itself is wrong (exit code 2)
│   ├── UnknownName         no such model, precision or metric; says which there are
│   ├── InvalidSpec         a value out of range, a malformed link or document
│   ├── UnavailablePrecision  a precision that this device cannot run, with the reason
│   └── InvalidInput        the text cannot be measured: empty, one token, not decodable
├── ModelError              the checkpoint cannot be used (exit code 1)
│   ├── ModelNotFound       no such folder or repository, or no network
│   ├── CorruptCheckpoint   truncated, malformed, or tensors missing
│   ├── UnsafeCheckpoint    pickled weights or remote code: refused
│   ├── UnsupportedModel    an architecture or a quantised checkpoint that is not handled, by name
│   ├── NothingConverted    a precision that would leave the model as it was
│   └── OutOfBudget         larger than the memory that this process may use
├── StoreError              the database or its disk refuses (exit code 1)
└── EngineError             the job did not finish (exit code 1)
    ├── QueueFull
    ├── Cancelled
    ├── TimedOut
    └── WorkerDied
"""

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager

from qfund.core.machine import public

#: A path of two steps or more that begins at the root. What follows a letter or a colon is a part of an address.
_PATH = re.compile(r"(?<![\w.:/~-])~?/(?:[^\s/:'\"<>|]+/)+([^\s/:'\"<>|,;)]*)")
#: A sentence of another library's that asks for what qfund never does.
_FOREIGN_CODE = re.compile(r"[^.!?\n]*\btrust_remote_code\b[^.!?\n]*[.!?]?\s*")


def _discreet(text: str) -> str:
    """A message as everybody may read it: never with advice to run a model's own code, and in public of a path here its
    last step only."""
    text = _FOREIGN_CODE.sub("", text).rstrip() if "trust_remote_code" in text else text
    return _PATH.sub(lambda found: found[1] or "…", text) if public() else text


class QfundError(Exception):
    """``message`` says what is wrong, ``remedy`` what to do about it; both are shown to people, also to strangers: see
    ``_discreet``. ``precision`` is the one of several that it is about, where it is about one."""

    exit_code = 1
    precision: str | None = None

    def __init__(self, message: str, remedy: str = "") -> None:
        self.message, self.remedy = _discreet(message), _discreet(remedy)
        super().__init__(self.message, self.remedy)

    def __str__(self) -> str:
        return f"{self.message} {self.remedy}".strip()


class UsageError(QfundError):
    exit_code = 2


class UnknownName(UsageError):
    pass


class InvalidSpec(UsageError):
    pass


class UnavailablePrecision(UsageError):
    pass


class InvalidInput(UsageError):
    pass


class ModelError(QfundError):
    pass


class ModelNotFound(ModelError):
    pass


class CorruptCheckpoint(ModelError):
    pass


class UnsafeCheckpoint(ModelError):
    pass


class UnsupportedModel(ModelError):
    pass


class NothingConverted(ModelError):
    pass


class OutOfBudget(ModelError):
    pass


class StoreError(QfundError):
    pass


class EngineError(QfundError):
    pass


class QueueFull(EngineError):
    pass


class Cancelled(EngineError):
    pass


class TimedOut(EngineError):
    pass


class WorkerDied(EngineError):
    pass


@contextmanager
def about(precision: str) -> Iterator[None]:
    """What is wrong with a model in this block is wrong with it in this precision: others may do."""
    try:
        yield
    except (NothingConverted, UnsupportedModel, CorruptCheckpoint) as error:
        error.precision = precision
        raise


def _all_errors(root: type[QfundError]) -> dict[str, type[QfundError]]:
    found = {root.__name__: root}
    for child in root.__subclasses__():
        found |= _all_errors(child)
    return found


#: Name → class, for an error that crosses a process boundary or is stored.
ERRORS = _all_errors(QfundError)


def out_of_memory(error: BaseException) -> bool:
    """Whether Python, torch or the system had no memory left to give."""
    if isinstance(error, QfundError):
        return False
    if {kind.__name__ for kind in type(error).__mro__} & {"MemoryError", "OutOfMemoryError"}:
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    text = str(error)
    # The last is cuBLAS's and cuDNN's, which take memory beside torch's allocator.
    return isinstance(error, RuntimeError) and any(
        said in text for said in ("out of memory", "allocate memory", "not enough memory", "_STATUS_ALLOC_FAILED")
    )


def exhausted(error: BaseException) -> OutOfBudget | None:
    """What people are told where memory ran out, the GPU's or the machine's; None for any other error."""
    if not out_of_memory(error):
        return None
    less = "Choose a smaller model, fewer precisions, a shorter context or fewer tokens, or use"
    accelerated = isinstance(error, RuntimeError) and any(
        said in str(error) for said in ("CUDA", "HIP", "MPS", "_STATUS_ALLOC")
    )
    if accelerated or "OutOfMemoryError" in {kind.__name__ for kind in type(error).__mro__}:
        return OutOfBudget(
            "This needs more memory than the GPU has free.",
            f"{less} a GPU with more memory, or the processor: QFUND_DEVICE=cpu.",
        )
    return OutOfBudget("This needs more memory than there is.", f"{less} a machine with more memory.")
