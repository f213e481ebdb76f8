"""What was found in a quantised file, in sentences."""

from collections.abc import Iterable, Iterator

from qfund.checkpoints.wild.table import FORMATS
from qfund.core.units import bytes_text, number_text
from qfund.drawing.phrases import listed, plural
from qfund.features.audit.request import Audit, TensorAudit, changed, kept_higher, main_type, pattern

#: A matrix that keeps less than this is another one, or its rows are in another order.
UNLIKE = 0.0


def headline(found: Audit) -> str:
    """``x.gguf is GGUF Q4_K_M: 4.07 M parameters in 2.46 MiB, 5.08 bits a weight (…).``"""
    quantized = "" if found.bits_of_quantized is None else f", {found.bits_of_quantized:.3g} of quantised weights alone"
    return (
        f"{found.file} is {found.label}: {found.parameters:,} parameters in {bytes_text(found.bytes)}. Bits per "
        f"weight: {found.bits_of_file:.3g} of the file, {found.bits_of_parameters:.3g} of all parameters{quantized}."
    )


def findings(found: Audit) -> Iterator[str]:
    """What is worth knowing, the worst first."""
    if broken := [row for row in found.tensors if row.nonfinite]:
        yield f"{_some(broken)} hold numbers that are not finite: the file is damaged."
    if found.folded:
        yield f"Tensors cannot be compared one by one: {found.folded}. What the outputs lose can: qfund compare."
    unlike = [row for row in found.tensors if row.sqnr is not None and row.sqnr < UNLIKE and len(row.shape) > 1]
    if unlike:
        yield (
            f"{_some(unlike)} {_are(unlike)} nothing like the original's (SQNR below 0 dB): another model, or scales "
            "folded from tensor to tensor."
        )
    if wrong := changed(found):
        coded = [row for row in wrong if row.quantized]
        what = f", {plural(len(coded), 'tensor')} of them as codes" if coded else ""
        yield f"Norms, biases or routers were changed that should have been left alone: {_some(wrong)}{what}."
    elif found.original and not found.folded:
        yield "Norms, biases and routers are the original's."
    main = main_type(found)
    if main is None:
        yield "No tensor holds codes: it is not quantised."
    elif higher := kept_higher(found):
        types = listed(list(dict.fromkeys(row.type for row in higher)))
        yield f"Most weights are {main}; kept higher ({types}): {_some(higher)}."
    else:
        yield f"All quantised weights are {main} or smaller."
    if worst := lowest(found):
        yield f"The largest loss is in {worst.name} ({worst.type}): SQNR {number_text(worst.sqnr or 0.0)} dB."
    if found.lent:
        yield f"{plural(len(found.lent), 'tensor')} of the original are not in the file, {found.lent[0]} first."
    if found.inputs:
        yield f"Run by its own kernels it rounds more than weights: {found.inputs}."
    yield from found.notes


def lowest(found: Audit) -> TensorAudit | None:
    rows = [row for row in found.tensors if row.sqnr is not None and len(row.shape) > 1]
    return min(rows, key=lambda row: row.sqnr or 0.0, default=None)


def reference(found: Audit) -> str:
    return f"Decoded as {FORMATS[found.format].reference} does."


def layers_text(layers: tuple[int, ...]) -> str:
    """``0–5, 7``."""
    runs: list[list[int]] = []
    for layer in layers:
        if runs and layer == runs[-1][1] + 1:
            runs[-1][1] = layer
        else:
            runs.append([layer, layer])
    return ", ".join(f"{first}" if first == last else f"{first}–{last}" for first, last in runs)


def _are(rows: list[TensorAudit]) -> str:
    return "are" if len(rows) > 1 else "is"


def _some(rows: Iterable[TensorAudit]) -> str:
    """By place in the layers: ``model.layers.*.self_attn.v_proj (layers 0–2), lm_head``."""
    places: dict[str, list[int]] = {}
    for row in rows:
        name, layer = pattern(row.name)
        places.setdefault(name.removesuffix(".weight"), []).extend([] if layer is None else [layer])
    said = [
        f"{name} (layers {layers_text(tuple(sorted(set(layers))))})" if layers else name
        for name, layers in places.items()
    ]
    return ", ".join(said[:6]) + (f" and {len(said) - 6} more" if len(said) > 6 else "")
