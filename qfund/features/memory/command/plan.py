"""``qfund plan``: what a model's weights and buffers would take in every precision, without loading them."""

from argparse import Namespace
from functools import partial

from qfund import engine
from qfund.checkpoints.wild import locating
from qfund.commandline.measuring import put
from qfund.commandline.options import ALSO, JSON, MODEL, REVISION, names, precision
from qfund.commandline.table import Command, Option
from qfund.commandline.tables import aligned
from qfund.core.errors import ModelError
from qfund.core.feature import lazily
from qfund.core.units import bytes_text
from qfund.engine.kinds import kind_of
from qfund.features.audit import tables, words
from qfund.features.audit.request import Audit, AuditRequest, contents
from qfund.features.memory.request import plan
from qfund.precisions.table import PRECISIONS


def _run(options: Namespace) -> None:
    request = plan.PlanRequest(options.model, names(options.precision), names(options.also), revision=options.revision)
    if locating.is_file(options.model):
        put(contents(AuditRequest(options.model)), options, contents_text)
        return
    if options.headers:
        put(plan.headers(request, _silently), options, headers_text)
        return
    known = plan.read(plan.checked(request), _silently)  # whatever is wrong with it is said before torch is here
    found = engine.compute(request, measure=partial(lazily(kind_of(request).measure), known=known))
    put(found, options, plan_text)
    if not options.json and locating.is_packed(options.model):
        print(f"\n{_contents(options.model)}")


def _contents(folder: str) -> str:
    """By type and module, as of a file; a sizes' table does not need that its parts are all there."""
    try:
        return contents_text(contents(AuditRequest(folder)))
    except ModelError as error:
        return f"Its tensors cannot be unpacked: {error.message}"


def _silently(phase: str, share: float) -> None:
    """No progress: there is little to wait for."""


COMMAND = Command(
    run=_run,
    rows=(
        MODEL,
        precision((), "names", otherwise="all that this device could run"),
        ALSO,
        REVISION,
        Option("--headers", "at once, from the files' headers alone: stored sizes and float casts", flag=True),
        JSON,
    ),
    examples=("qfund plan pydoc-llama", "qfund plan owner/name --headers", "qfund plan ./model-Q4_K_M.gguf"),
)


def contents_text(found: Audit) -> str:
    """Of a quantised file: its bytes by type and module, from its head."""
    rows = [*aligned(tables.types(found)), "", *aligned(tables.modules(found), left=3)]
    return "\n".join([words.headline(found), "", *rows])


def headers_text(found: plan.HeaderPlan) -> str:
    rows = [["Stored as", "Elements", "Bytes", ""]]
    rows += [[name, f"{share.parameters:,}", *_size(share.bytes)] for name, share in found.dtypes.items()]
    rows.append(["all", f"{found.elements:,}", *_size(found.stored_bytes)])
    casts = [["Cast", "Parameter bytes", ""]]
    casts += [[PRECISIONS[name].label, *_size(size)] for name, size in found.cast_bytes.items()]
    title = f"{_title(found)}: from headers, {len(found.modules):,} modules"
    casted = ["", *aligned(casts)] if found.cast_bytes else []
    return "\n".join([title, "", *aligned(rows), *casted, "", *found.notes])


def plan_text(found: plan.Plan) -> str:
    parts = [part for part in plan.PARTS if any(entry.parts[part] for entry in found.entries)]
    rows = [["Precision", "Predicted bytes", "", "× FP32", "Bits/weight", *parts]]
    for entry in found.entries:
        bits = "–" if entry.bits_per_weight is None else f"{entry.bits_per_weight:.3f}"
        sizes = [bytes_text(entry.parts[part]) if entry.parts[part] else "–" for part in parts]
        label = PRECISIONS[entry.precision].label
        rows.append([label, *_size(entry.predicted_bytes), f"{entry.ratio:.3f}", bits, *sizes])
    left = [f"{PRECISIONS[row.precision].label} is not planned: {row.why}" for row in found.not_planned]
    title = f"{_title(found)}: {found.parameters:,} parameters, {bytes_text(found.stored_bytes)} on disk"
    words = [f"{part}: {plan.PARTS[part]}." for part in parts]
    return "\n".join([title, "", *aligned(rows), "", *words, *found.notes, *left])


def _title(found: plan.Plan | plan.HeaderPlan) -> str:
    return f"{found.model}{f' at {found.revision}' if found.revision else ''} ({found.architecture})"


def _size(count: int) -> tuple[str, str]:
    return f"{count:,}", bytes_text(count)
