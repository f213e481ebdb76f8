"""``qfund load-peak``: the memory that each way of loading a model needs."""

from argparse import Namespace

from qfund.commandline.measuring import measured, put
from qfund.commandline.options import JSON, MODEL, QUIET, REVISION, names, precision
from qfund.commandline.table import Command, Option
from qfund.commandline.tables import aligned
from qfund.core.units import bytes_text, seconds_text
from qfund.features.memory import words
from qfund.features.memory.request import load_peak as load_peak_request
from qfund.features.memory.request.load_peak import TINY, WAYS, LoadPeakRequest, LoadPeaks, WayPeak
from qfund.precisions.table import PRECISIONS

_COLUMNS = ("need", "settled", "private_peak", "rss_peak")


def _run(options: Namespace) -> None:
    request = LoadPeakRequest(
        model=options.model,
        precisions=names(options.precision),
        ways=names(options.ways),
        revision=options.revision,
        runs=options.runs,
    )
    put(measured(request, options), options, text, load_peak_request.to_json)


COMMAND = Command(
    run=_run,
    rows=(
        MODEL,
        precision(load_peak_request.DEFAULT_PRECISIONS, "names"),
        Option("--ways", f"only these of: {', '.join(WAYS)} (default: all that apply)", "W", default=[], many=True),
        Option("--runs", "measure each way N times and report the median (default: 1)", "N", int, 1),
        REVISION,
        JSON,
        QUIET,
    ),
    examples=(
        "qfund load-peak pydoc-llama --precision bf16 int8",
        "qfund load-peak ./model-nf4 --precision stored",
    ),
)


def text(found: LoadPeaks) -> str:
    """The whole result for a terminal."""
    kind = "as they are stored" if found.reference.precision == load_peak_request.AS_STORED[0] else "in fp32"
    lines = [
        f"{found.request.model}: {found.architecture}, {bytes_text(found.weights_bytes)} of weights {kind} (= 1.00).",
        *found.notes,
        *(words.load_needs(found, name) for name in found.request.precisions),
        "",
        *_table(found),
        "",
        "Need: the most private bytes plus live weights that alias the mapped file, which decides whether a load fits.",
        "Settled: what of it stays. Private: resident bytes that no file backs; weights left in the file are missing.",
        "RSS: all resident bytes; pages of the file, which the system takes back when it needs them, are in it.",
        "Footprint: stored tensors, counted; claimed: what get_memory_footprint() says. All above the imports' memory.",
        *_inference_legend(found),
    ]
    every = (found.reference, *(one for one in found.ways if one != found.reference))
    said = [(one, one.problem or (one.note if one.sampled else None)) for one in every]
    problems = [f"{PRECISIONS[one.precision].label}, {one.way}: {sentence}" for one, sentence in said if sentence]
    return "\n".join([*lines, *([""] if problems else []), *problems])


def _inference_legend(found: LoadPeaks) -> list[str]:
    ran = [one.inference for one in _listed(found) if one.inference]
    if not ran:
        return []
    stays = bytes_text(max(0, *(one.stays for one in ran)))
    return [
        f"Inference: the most need during one forward of {ran[0].read} after the load (all logits, no cache).",
        f"Up to {stays} of it were set up by libraries in that first forward and stay; activations are the rest.",
    ]


def _table(found: LoadPeaks) -> list[str]:
    """Need in bytes, and all as multiples of the fp32 weights."""
    heading = ["precision", "way", "need", "need", "settled", "private", "RSS", "footprint", "claimed"]
    heading += ["inference", "time"]
    device = any(one.device_peak is not None for one in (found.reference, *found.ways))
    rows = [heading + ["GPU"] * device]
    rows += [_cells(one, found.weights_bytes, device) for one in _listed(found)]
    return aligned(rows, left=2)


def _listed(found: LoadPeaks) -> list[WayPeak]:
    return [found.reference, *(one for one in found.ways if one != found.reference and not one.problem)]


def _cells(one: WayPeak, weights: int, device: bool) -> list[str]:
    sampled = one.sampled
    of_weights = sampled.multiples if sampled and weights >= TINY else None
    return [
        PRECISIONS[one.precision].label,
        one.way,
        bytes_text(sampled.need) if sampled else "-",
        *(f"{of_weights[name]:.2f}" if of_weights else "-" for name in _COLUMNS),
        *("-" if size is None else f"{size / weights:.2f}" for size in (one.footprint_bytes, one.transformers_bytes)),
        f"{one.inference.multiple:.2f}" if one.inference and of_weights else "-",
        "-" if one.seconds is None else seconds_text(one.seconds),
        *(["-" if one.device_peak is None else bytes_text(one.device_peak)] if device else []),
    ]
