"""The load peak: every way to load a model in a fresh process each, watched from outside, one at a time."""

import importlib.util
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import torch

from qfund.checkpoints import catalog, checkpoint, hub
from qfund.checkpoints.checkpoint import Checkpoint
from qfund.core.errors import OutOfBudget, QfundError, TimedOut, WorkerDied
from qfund.core.progress import Progress
from qfund.core.units import bytes_text, seconds_text
from qfund.features.memory.measure.loading.messages import Job
from qfund.features.memory.measure.loading.summary import summarize_forward, summarize_load
from qfund.features.memory.measure.loading.watch import Run, run
from qfund.features.memory.request.load_peak import (
    AS_STORED,
    FORWARD_TOKENS,
    NOT_SAMPLED,
    REFERENCE,
    SMALL,
    WAYS,
    Inference,
    LoadPeakRequest,
    LoadPeaks,
    Sampled,
    WayPeak,
    checked,
    pairs,
)
from qfund.models import environment, prequantized, tasks
from qfund.models.cache import default_budget
from qfund.models.footprint import Footprint
from qfund.models.skeleton import predict
from qfund.precisions import backends
from qfund.precisions.table import PRECISIONS, require
from qfund.version import VERSION

#: Seconds between two samples from which on something may have been missed.
GAP = 0.1
#: Bytes that a process has imported before it loads anything.
IMPORTED = 512 * 1024**2
#: Quantising one weight takes this many copies of it in fp32 for a moment.
_TEMPORARIES = 4
#: Loading what is quantised already takes so many times its bytes, generously: what is read, and what a library makes.
_TWICE = 2
_READ = 16 * 1024**2


def load_peak(request: LoadPeakRequest, progress: Progress = lambda phase, share: None) -> LoadPeaks:
    """Measure every way that ``request`` asks for.

    Raises:
        QfundError: anything that is wrong with the request or the model; see ``qfund.core.errors``.
        OutOfBudget: a way is expected to need more than this machine has; nothing has been loaded then.
        WorkerDied: a loading process was killed.
    """
    request = checked(request)
    progress("reading the checkpoint", 0.0)
    source = catalog.locate(request.model, request.revision)
    folder, revision = source.folder, None
    if folder is None:
        folder, revision = hub.download(source.name, source.revision, default_budget(), progress)
    found = checkpoint.read(folder)
    wanted = pairs(request)
    as_stored = wanted[0] == AS_STORED
    for name in dict.fromkeys((wanted[0][0], *request.precisions)):
        require(PRECISIONS[name], catalog.device())
        prequantized.check(found, as_stored, PRECISIONS[name].label)
    tasks.task_of(found)
    stored = sum(tensor.bytes for tensor in found.tensors.values())
    if as_stored:
        prequantized.readable(found, torch.device(catalog.device()))
        weights = stored
        _must_be_free(found, wanted[0], _TWICE * stored)
    else:
        predictions = {name: predict(found, PRECISIONS[name]) for name in dict.fromkeys(name for name, _ in wanted)}
        weights = predictions[REFERENCE[0]].parts["weights"]
        _must_fit(found, wanted, predictions)
    _warm(folder, lambda share: progress("reading the files once", 0.05 * share))
    measured: list[WayPeak] = []
    for number, (name, way) in enumerate(wanted):

        def entered(phase: str, name: str = name, way: str = way, share: float = number / len(wanted)) -> None:
            progress(f"{PRECISIONS[name].label}, {way}: {phase}", 0.05 + 0.95 * share)

        job = Job(str(folder), name, way, tokens=FORWARD_TOKENS if WAYS[way].runs else 0)
        measured.append(_measure(job, request.runs, weights, entered))
    return LoadPeaks(
        qfund=VERSION,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        request=request,
        environment=environment.describe(found.id, revision),
        architecture=found.architecture,
        weights_bytes=weights,
        stored_bytes=stored,
        reference=measured[0],
        ways=tuple(row for row in measured if row.precision in request.precisions),
        notes=tuple(_notes(found, weights, measured)),
    )


def _measure(job: Job, runs: int, weights: int, entered: Callable[[str], None]) -> WayPeak:
    """One way, ``runs`` times."""
    if problem := _missing(job.precision, job.way):
        return WayPeak(job.precision, job.way, problem=problem)
    try:
        return _result(job, [run(job, entered) for _ in range(runs)], weights)
    except (WorkerDied, OutOfBudget, TimedOut):
        raise
    except QfundError as error:
        if WAYS[job.way].library is None:
            raise
        # Libraries fail on some models; the other ways can be measured all the same.
        return WayPeak(job.precision, job.way, problem=str(error))


def _result(job: Job, runs: Sequence[Run], weights: int) -> WayPeak:
    """The run with the median need (the lower one of two), and the needs of all."""
    found = [(one, summarize_load(one.loaded.borders, one.samples, weights, one.loaded.moments)) for one in runs]
    needs = tuple(sampled.need for _, sampled in found if sampled)
    middle, sampled = sorted(found, key=lambda pair: pair[1].need if pair[1] else 0)[(len(found) - 1) // 2]
    loaded, ran = middle.loaded, middle.ran
    inference = (
        summarize_forward(loaded.borders, ran, middle.samples, sampled.settled, weights) if sampled and ran else None
    )
    notes = [
        _note(sampled, max(loaded.swapped, ran.swapped if ran else 0)),
        f"No forward was measured: {ran.problem}" if ran and ran.problem else _note_forward(inference),
    ]
    return WayPeak(
        precision=job.precision,
        way=job.way,
        seconds=loaded.seconds,
        footprint_bytes=loaded.footprint_bytes,
        transformers_bytes=loaded.transformers_bytes,
        needs=needs,
        sampled=sampled,
        device_peak=loaded.device_peak,
        note=" ".join(filter(None, notes)) or None,
        inference=inference,
    )


def _note_forward(inference: Inference | None) -> str | None:
    if inference is None or inference.largest_gap <= GAP:
        return None
    seen = seconds_text(inference.largest_gap)
    return f"During the forward nothing was seen for {seen}: a short peak may be missing."


def _note(sampled: Sampled | None, swapped: int) -> str | None:
    if sampled is None:
        return f"Memory over time: {NOT_SAMPLED}."
    if swapped:
        return f"The system moved {bytes_text(swapped)} to its swap meanwhile: all figures are too low by up to that."
    if sampled.largest_gap > GAP:
        seen = seconds_text(sampled.largest_gap)
        return f"The machine was so busy that nothing was seen for {seen}: a short peak may be missing. Measure again."
    return None


def _notes(found: Checkpoint, weights: int, measured: Sequence[WayPeak]) -> Iterator[str]:
    if found.quantization is not None:
        yield (
            f"The checkpoint is quantised already ({found.quantization.label}): it has no fp32 weights, "
            "so that multiples are of the bytes of its tensors as they are stored."
        )
        if found.quantization.method == "compressed-tensors":
            yield "compressed-tensors unpacks the weights in the first forward: they are in Inference, and stay."
    if not any(row.sampled for row in measured):
        yield f"Memory over time: {NOT_SAMPLED}, which has no /proc."
    elif weights < SMALL:
        kind = "The fp32 weights" if found.quantization is None else "The weights"
        yield (
            f"{kind} take {bytes_text(weights)}: so little that what Python and torch allocate on the way, "
            f"up to a MiB, shows in every figure. From {bytes_text(SMALL)} on multiples are good to about 0.02."
        )
    if catalog.device().startswith("cuda"):
        yield "On the GPU: the most that torch's allocator held, without the driver's own context."


def _missing(precision: str, way: str) -> str | None:
    """Why a library's way cannot be measured here."""
    library = WAYS[way].library
    if library is None:
        return None
    if importlib.util.find_spec(library) is None:
        return f"{library} is not installed. Install it with: {backends.BACKENDS[library].install}"
    row = next((row for row in backends.implementations(precision) if row.backend == library), None)
    return backends.unavailable(row, catalog.device()) if row else f"{library} has no {precision}."


def expected(way: str, full: Footprint, base: int, low: int) -> int:
    """Bytes that a way may need, generously: ``full`` in fp32, ``base`` before it is quantised, ``low`` at the end."""
    largest = _TEMPORARIES * max((row.bytes for row in full.tensors), default=0)
    if way in ("direct", "quantised-direct"):
        return low + largest
    if way == "deepcopy":
        return 2 * full.bytes + max(low - full.bytes, 0) + largest
    if way == "torchao-direct":
        return max(base, low) + largest
    return max(full.bytes, low, base) + largest


def _must_fit(found: Checkpoint, wanted: Iterable[tuple[str, str]], predictions: dict[str, Footprint]) -> None:
    full = predictions[REFERENCE[0]]
    for name, way in wanted:
        if _missing(name, way):
            continue
        row = PRECISIONS[name]
        casts = {"float64": 2.0, "float32": 1.0}
        base = int(full.bytes * casts.get(row.dtype, 0.5))
        _must_be_free(found, (name, way), expected(way, full, base, predictions[name].bytes))


def _must_be_free(found: Checkpoint, pair: tuple[str, str], need: int) -> None:
    free, need = available(), need + IMPORTED
    if free is not None and need > free:
        raise OutOfBudget(
            f"Loading {found.folder.name} in {PRECISIONS[pair[0]].label} ({pair[1]}) is expected to need up to "
            f"{bytes_text(need)}; this machine has {bytes_text(free)} available.",
            "Choose a smaller model, name fewer ways with --ways, or use a machine with more memory.",
        )


def available() -> int | None:
    """Bytes that a new process may take without swapping: the system's own estimate, or what is left of the control
    group's limit; None where the system does not say."""
    try:
        rows = (line.split() for line in Path("/proc/meminfo").read_text().splitlines())
        free = next(int(row[1]) * 1024 for row in rows if row[0] == "MemAvailable:")
    except (OSError, StopIteration, ValueError):
        return None
    for limit, used, stat in (
        ("memory.max", "memory.current", "memory.stat"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat"),
    ):
        with suppress(OSError, ValueError, StopIteration):
            group = Path("/sys/fs/cgroup")
            most, taken = int((group / limit).read_text()), int((group / used).read_text())
            lines = (line.split() for line in (group / stat).read_text().splitlines())
            files = next(int(row[1]) for row in lines if row[0] in ("inactive_file", "total_inactive_file"))
            free = min(free, most - taken + files)
    return free


def _warm(folder: Path, progress: Callable[[float], None]) -> None:
    """Read the weights once, so that every way finds them in the page cache and seconds can be compared."""
    paths = sorted(folder.glob("*.safetensors"))
    total, done = sum(path.stat().st_size for path in paths) or 1, 0
    for path in paths:
        with path.open("rb", buffering=0) as file:
            while part := len(file.read(_READ)):
                done += part
                progress(done / total)
