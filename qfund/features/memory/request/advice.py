"""What the rows of ``sizing`` amount to: the precision to choose, and what its numbers must be read with."""

from collections.abc import Iterable, Mapping, Sequence

from qfund.core.units import bytes_text
from qfund.drawing.phrases import label
from qfund.features.memory.request.fits import Choice, Row, Shape, Weights, Workload, row_in
from qfund.features.memory.request.kv_cache import SIZES
from qfund.precisions.files import is_file
from qfund.precisions.precision import FILE, STORED, Precision

#: dB of signal to quantisation noise (``Precision.sqnr_floor``) under which a choice comes with a warning.
POOR = 15.0

_STORED_BITS = {"F64": 64, "F32": 32, "F16": 16, "BF16": 16}
_STORED_NAME = {"F64": "fp64", "F32": "fp32", "F16": "fp16", "BF16": "bf16"}


def ranked(
    names: Iterable[str], stored: Mapping[str, int], of_files: Mapping[str, float | None] | None = None
) -> list[str]:
    """The least lossy first: more bits per weight, scales included; then weights alone before weights and activations;
    then the checkpoint's own dtype; then bf16 before fp16, which may overflow; then the format with less noise.

    Precisions with more bits than the checkpoint stores come last, the smallest of them first: they hold the same
    values in more bytes. ``of_files``: bits a weight of quantised files.
    """
    own = max(stored, key=lambda dtype: stored[dtype], default="F32")
    limit = _STORED_BITS.get(own, 32)

    def key(name: str) -> tuple[float, ...]:
        row = row_in(name, (of_files or {}).get(name))
        beyond = row.quantizer is None and row.effective_bits > limit
        bits = row.effective_bits if beyond else -row.effective_bits
        order = (row.product is not None, name != _STORED_NAME.get(own), row.dtype == "float16", -row.sqnr_floor)
        return (beyond, bits, *map(float, order), -SIZES.get(row.dtype, 0))

    return sorted(names, key=key)


def choose(
    found: Sequence[Row], workload: Workload, stored: Mapping[str, int], weights: Iterable[Weights] = ()
) -> Choice:
    """The least lossy precision that fits, in a sentence that also says what it leaves unconverted."""
    weights = [*weights]
    stays = {row.precision: row.stays for row in weights if row.stays}
    bits = {row.precision: row.bits for row in weights}
    by_name = {row.precision: row for row in found}
    asked = f"{workload.context:,} tokens × {workload.batch:,} in {bytes_text(workload.budget)}"
    if not found:
        return Choice(None, "No precision that was asked for could be sized.")
    fitting = [name for name in ranked(by_name, stored, bits) if by_name[name].fits]
    if not fitting:
        least = min(found, key=lambda row: row.total.bytes)
        shorter = max(found, key=lambda row: row.longest_context)
        rest = (
            f"a context of {shorter.longest_context:,} would fit in {label(shorter.precision)}"
            if shorter.longest_context
            else "not even one token of context would fit"
        )
        return Choice(
            None,
            f"Nothing fits for {asked}: {label(least.precision)} is the smallest and lacks "
            f"{bytes_text(-least.headroom)}; {rest}{_staying(least.precision, stays)}.",
        )
    name = fitting[0]
    row = row_in(name, bits.get(name))
    called = label(name) if is_file(name) else f"{row.label} ({name})"
    sentence = f"Choose {called}: the least lossy that fits for {asked}, with {_spare(by_name[name])}"
    sentence += f"{_staying(name, stays)}."
    if row.sqnr_floor < POOR and row.family not in (STORED, FILE):
        sentence += f" It is coarse: measure what it costs with qfund compare --precision {name}."
    return Choice(name, sentence + _why_not_more(row, by_name, stored, bits))


def _staying(name: str, stays: Mapping[str, str]) -> str:
    return f"; in it {stays[name]}" if name in stays else ""


def _spare(row: Row) -> str:
    return f"{bytes_text(row.headroom)} to spare"


def _why_not_more(
    row: Precision, by_name: Mapping[str, Row], stored: Mapping[str, int], bits: Mapping[str, float | None]
) -> str:
    """Said where a precision with more bits fits too, and only repeats what the checkpoint stores."""
    least = row.effective_bits
    more = [
        name for name, other in by_name.items() if other.fits and row_in(name, bits.get(name)).effective_bits > least
    ]
    if not more:
        return ""
    own = max(stored, key=lambda dtype: stored[dtype], default="F32")
    labels = " and ".join(label(name) for name in more)
    return f" {labels} would fit too, but the checkpoint stores {own}: the same values in more bytes."


def warnings(shape: Shape, workload: Workload) -> tuple[str, ...]:
    """Sentences about a workload that change what its numbers mean."""
    found = []
    if shape.trained is not None and workload.context > shape.trained:
        found.append(
            f"A context of {workload.context:,} is beyond the {shape.trained:,} positions that this model was made for."
        )
    if workload.kv in ("fp8", "int8", "int4") and (shape.states or any(row.window for row in shape.cache)):
        found.append(
            f"transformers itself quantises caches of models with full attention only; {workload.kv} is what the codes "
            "of this one would take in another runtime."
        )
    return tuple(found)


def notes(shape: Shape) -> tuple[str, ...]:
    """Sentences that say how the numbers came about."""
    found = []
    if not shape.cache and not shape.states:
        found.append("This model generates nothing, so it caches nothing.")
    elif not shape.checked:
        found.append("The cache is computed from the config alone: transformers' own could not be built to compare.")
    if any(row.source == "formula" for row in shape.activations):
        found.append("The forward could not be traced; activations are from a general formula (a factor of two).")
    if any(row.window for row in shape.cache):
        found.append(
            "Sliding windows are capped. A prompt that is read in one go is held in full until the next token; that is "
            "among the activations."
        )
    return tuple(found)
