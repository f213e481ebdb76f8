"""Load a model one way, and say at each border between two phases what memory it takes.

``watch`` starts it with ``python -m`` for each load, because only a fresh process has nothing left from another one. It
speaks ``messages``, and exits at once when its standard input ends: its parent is gone.
"""

import contextlib
import ctypes
import gc
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from qfund.core.errors import EngineError, OutOfBudget, QfundError
from qfund.features.memory.measure.loading import messages
from qfund.features.memory.measure.loading.messages import Entered, Event, Failed, Imported, Job, Loaded, Ran

_M_MMAP_THRESHOLD = -3  # malloc.h

#: Seconds at the start and at the end in which nothing happens but samples.
_REST = 0.05


def settle() -> None:
    """Memory manners, where the system has them."""
    with contextlib.suppress(AttributeError, OSError, TypeError):
        # glibc would raise this threshold (its own initial value) with the first large tensors, and then keep what they
        # free, which would look needed. Temporary tensors take somewhat longer so.
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, 128 << 10)
    with contextlib.suppress(OSError):
        # When memory runs out the kernel shall end this process, and neither its parent nor the web server.
        Path("/proc/self/oom_score_adj").write_text("900")
    with contextlib.suppress(ValueError):
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent too, which ends this process


def take_streams() -> tuple[BinaryIO, BinaryIO]:
    """The original standard input and output; libraries get the null device and standard error in their places."""
    incoming, outgoing = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    os.dup2(2, 1)
    return incoming, outgoing


def perform(job: Job, announce: Callable[[Event], None], go: Callable[[], object]) -> None:
    """Import, wait for ``go``, load, announce what was found; where it is asked for, run the model then."""
    import torch

    from qfund.checkpoints.catalog import CATALOG
    from qfund.features.memory.measure.loading import forward
    from qfund.features.memory.measure.loading.loader import Loader, read_privately
    from qfund.features.memory.measure.loading.phases import Phases, aliasing_files, swapped
    from qfund.models import counting

    loader = Loader(Path(job.folder), job.precision, job.way)
    if job.private:
        read_privately()
    with contextlib.suppress(Exception):
        # Once through on a toy, so that what is imported and allocated by the first load of all is not counted.
        Loader(CATALOG["dummy"].folder, job.precision, job.way).load(Phases(lambda phase: None))
    batch = forward.prepare(loader.found, job.tokens) if job.tokens else None
    if loader.device.type == "cuda":
        torch.cuda.synchronize(loader.device)
    aliasing_files([])
    gc.collect()
    announce(Imported())
    go()
    if loader.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(loader.device)
    phases = Phases(lambda phase: announce(Entered(phase)))
    phases.enter("start")
    time.sleep(_REST)
    processor = time.process_time()
    models = loader.load(phases)
    if loader.device.type == "cuda":
        torch.cuda.synchronize(loader.device)
    phases.enter("ready", *models)
    processor = time.process_time() - processor
    gc.collect()
    time.sleep(_REST)
    phases.enter("end", *models)
    loaded = Loaded(
        borders=phases.borders,
        seconds=phases.seconds,
        footprint_bytes=sum(counting.stored_bytes(model) for model in models),
        transformers_bytes=sum(int(model.get_memory_footprint()) for model in models),
        device_peak=torch.cuda.max_memory_allocated(loader.device) if loader.device.type == "cuda" else None,
        processor_seconds=processor,
        swapped=swapped(),
    )
    announce(loaded)  # whatever becomes of the forward, the load is measured
    if isinstance(batch, Ran):
        announce(batch)
    elif batch is not None:
        announce(forward.watched(models[0], batch, loader.row, lambda phase: announce(Entered(phase))))


def failure_of(error: Exception) -> Failed:
    """What is reported of an exception; the traceback of one that nobody foresaw goes to standard error."""
    if isinstance(error, QfundError):
        return messages.failure(error)
    names = {kind.__name__ for kind in type(error).__mro__}
    if names & {"MemoryError", "OutOfMemoryError"} or "allocate memory" in str(error):
        failure: QfundError = OutOfBudget(
            "The memory ran out while the model was loaded.",
            "Choose a smaller model or fewer ways, or use a machine with more memory.",
        )
    else:
        traceback.print_exception(error)
        failure = EngineError(
            f"Loading failed unexpectedly: {type(error).__name__}: {' '.join(str(error).split())[:500]}",
            "This is an error of qfund or of a library under it; the traceback on standard error has the details.",
        )
    return messages.failure(failure)


def main() -> None:
    incoming, outgoing = take_streams()
    settle()
    job = messages.job(incoming.readline())
    start = threading.Event()

    def listen() -> None:
        # A thread of its own, so that the parent's end is noticed in the middle of a load.
        if incoming.readline():
            start.set()
            incoming.read()
        os._exit(1)

    def announce(event: Event) -> None:
        outgoing.write(messages.line(event))
        outgoing.flush()

    threading.Thread(target=listen, daemon=True).start()
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    try:
        from qfund.precisions import backends

        backends.quiet()
        perform(job, announce, start.wait)
    except Exception as error:
        announce(failure_of(error))
    sys.stderr.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
