"""What the lesson does by hand in a notebook, done to a model: the request, and the result as plain data. No torch.

Parameters before and after a cast, a copy beside a second name, outputs in three dtypes, and one real weight in several
formats. ``qfund.features.lesson.measure.notebook`` does it.
"""

from dataclasses import dataclass, replace

from qfund.core.environment import Environment
from qfund.core.request import model_name

#: Tensors that are listed by name; the others are counted.
LISTED = 40
#: Logits of one position that are shown.
TOP = 5
#: Tokens that the three dtypes read.
TOKENS = 256
#: Formats in which a weight is looked at: two casts, an 8-bit float and 8-bit integers.
FORMATS = ("bf16", "fp16", "fp8_e4m3", "int8")


@dataclass(frozen=True, slots=True)
class NotebookRequest:
    """``model`` and ``revision`` as in a comparison's ``Spec``."""

    model: str
    revision: str | None = None


def checked(request: NotebookRequest) -> NotebookRequest:
    """The same request in its one canonical form.

    Raises:
        InvalidSpec: no model.
    """
    return replace(request, model=model_name(request.model), revision=request.revision or None)


@dataclass(frozen=True, slots=True)
class ListedTensor:
    """A tensor as ``named_parameters()`` or ``named_buffers()`` gives it: ``kind`` is ``"weight"`` or ``"buffer"``,
    ``before`` and ``after`` are its dtypes around the cast. A tied weight is listed with 0 bytes."""

    name: str
    kind: str
    shape: tuple[int, ...]
    before: str
    after: str
    bytes: int


@dataclass(frozen=True, slots=True)
class TensorCount:
    """How many tensors of one kind have one dtype, and their elements and bytes, each memory once."""

    kind: str
    dtype: str
    tensors: int
    elements: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Cast:
    """What ``model.to(torch.bfloat16)`` did.

    Attributes:
        returned_itself: whether what it returned is the very model it was called on.
        same_parameters: parameters that are the same Python objects as before, of ``parameters``.
        same_storage: of these, those whose memory is the same as before.
        bytes_before, bytes_after: stored bytes, each memory once.
        rounded: weights whose value changed, of ``weights``; non-finite ones are not counted.
        largest_relative: the largest |change| ÷ |weight|, of weights that are normal numbers in both dtypes.
        lost: weights that are not what they were after a cast back to float32.
        overflowed: finite weights that are infinite in bfloat16.
    """

    returned_itself: bool
    parameters: int
    same_parameters: int
    same_storage: int
    bytes_before: int
    bytes_after: int
    weights: int
    rounded: int
    largest_relative: float
    lost: int
    overflowed: int


@dataclass(frozen=True, slots=True)
class Copies:
    """A second name beside a deep copy, while the second is cast to bfloat16.

    Attributes:
        name_shares: parameters that share memory with those of the model that was assigned (``second = model``).
        copy_shares: parameters that share memory with the model's, of ``copy.deepcopy(model)``.
        name_after, original_after: dtype of a second name's parameters, and of the original's, after the copy was cast.
        values_kept: whether every weight of the original is bit for bit what it was, after its copy was cast.
        ties, ties_kept: parameters that share another's memory in the model, and in its copy.
        model_bytes, copy_bytes: stored bytes of the original and of the copy that was cast.
    """

    parameters: int
    name_shares: int
    copy_shares: int
    name_after: str
    original_after: str
    values_kept: bool
    ties: int
    ties_kept: int
    model_bytes: int
    copy_bytes: int


@dataclass(frozen=True, slots=True)
class DirectLoad:
    """The model loaded straight in bfloat16 beside the one that was loaded in float32 and cast.

    Attributes:
        tensors: parameters and buffers, of which ``equal`` are the same bit for bit and in dtype.
        different: names of the first of the others.
        largest: of |difference| between their outputs; None where neither could be compared.
        bytes: that it stores, each memory once.
    """

    tensors: int
    equal: int
    different: tuple[str, ...]
    largest: float | None
    bytes: int


@dataclass(frozen=True, slots=True)
class Output:
    """One forward in one dtype on the same input.

    Attributes:
        returned: dtype of the output; empty where the model could not be run: ``problem`` says why.
        values: of the position that is shown, those of ``Lesson.shown``.
        mean, largest: |difference| from float32 over all outputs, computed in float64; None for float32 itself, and
            where no pair is finite. Pairs with a value that is not finite are counted in ``nonfinite``.
    """

    dtype: str
    returned: str = ""
    values: tuple[float, ...] = ()
    mean: float | None = None
    largest: float | None = None
    nonfinite: int = 0
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class Bin:
    """Weights with 2^exponent ≤ |weight| < 2^(exponent + 1): how many, and the mean of |error| and of the magnitude."""

    exponent: int
    count: int
    error: float
    magnitude: float


@dataclass(frozen=True, slots=True)
class WeightFormat:
    """One real weight in one format.

    Attributes:
        sqnr: signal to quantisation noise in dB; None where nothing was lost.
        mean, largest: |error|.
        distinct: how many different values are left in the first row.
        step: the scale of that row, the distance between neighbours; None for floats without a scale.
    """

    precision: str
    bits: float
    sqnr: float | None
    mean: float
    largest: float
    distinct: int
    step: float | None
    bins: tuple[Bin, ...]


@dataclass(frozen=True, slots=True)
class WeightInFormats:
    """The weight that the formats are shown on: a matrix [out, in], at most its first rows (``rows``)."""

    name: str
    shape: tuple[int, ...]
    rows: int
    largest: float
    formats: tuple[WeightFormat, ...]


@dataclass(frozen=True, slots=True)
class Notebook:
    """All of it.

    Attributes:
        stored: safetensors' dtype → bytes in the checkpoint's files.
        before, after: of the model that is cast.
        listed: the first tensors by name.
        gives: what the outputs are: ``"logits"`` or ``"hidden states"``.
        input: what they were computed on.
        shown: what the values of ``Output.values`` belong to: tokens, classes or dimensions by name.
        position: which position is shown, from 0; None where an output is not one of positions.
        notes: sentences for people.
    """

    qfund: str
    created: str
    request: NotebookRequest
    environment: Environment
    architecture: str
    stored: dict[str, int]
    before: tuple[TensorCount, ...]
    after: tuple[TensorCount, ...]
    listed: tuple[ListedTensor, ...]
    cast: Cast
    copying: Copies
    direct: DirectLoad
    outputs: tuple[Output, ...]
    gives: str
    input: str
    shown: tuple[str, ...]
    position: int | None
    weight: WeightInFormats | None
    notes: tuple[str, ...] = ()
