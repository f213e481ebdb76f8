"""Load a model one way, and say at each border between two phases what memory it takes.

``watch`` starts it with ``python -m`` for each load, because only a fresh process has nothing left from another one. It
speaks ``messages``, and exits at once when its standard input ends: its parent is gone.
"""

import contextlib
import gc
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from msgspec import structs

from qfund.core.errors import QfundError, exhausted
from qfund.engine import child
from qfund.engine.messages import Failed, failure
from qfund.features.memory.measure.loading import messages
from qfund.features.memory.measure.loading.messages import Entered, Event, Imported, Job, Loaded, Ran
from qfund.features.memory.measure.loading.sampler import available

#: Seconds at the start and at the end in which nothing happens but samples.
_REST = 0.05


def settle() -> None:
    """Memory manners. The threshold is glibc's own initial value, so that what is freed never looks needed; temporary
    tensors take somewhat longer so."""
    child.settle(mapped=128 << 10, expendable=900)
    with contextlib.suppress(ValueError):
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent too, which ends this process


def perform(job: Job, announce: Callable[[Event], None], go: Callable[[], object]) -> None:
    """Import, wait for ``go``, load, announce what was found; where it is asked for, run the model then."""
    import torch

    from qfund.checkpoints.catalog import CATALOG
    from qfund.features.memory.measure.loading import forward
    from qfund.features.memory.measure.loading.loader import Loader
    from qfund.features.memory.measure.loading.mapped import Mapped, give
    from qfund.features.memory.measure.loading.phases import Phases, aliasing_files, swapped
    from qfund.features.memory.request.load_peak import AS_STORED, REFERENCE
    from qfund.models import counting
    from qfund.models.environment import wait_for
    from qfund.precisions.backends import postponed

    postponed.import_the_rest()
    loader = Loader(Path(job.folder), job.precision, job.way)
    with contextlib.suppress(Exception):
        # Once through on a toy, so that what is imported and allocated by the first load of all is not counted.
        pair = (job.precision, job.way)
        Loader(CATALOG["dummy"].folder, *(REFERENCE if pair == AS_STORED else pair)).load(Phases(lambda phase: None))
    mapped = Mapped()
    if job.private:
        give(torch.Tensor.clone)
    elif available():
        give(mapped.watch)
    batch = forward.prepare(loader.found, job.tokens) if job.tokens else None
    wait_for(loader.device)
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
    wait_for(loader.device)
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
        moments=[moment for moment in mapped.moments if moment.time <= phases.borders[-1].ended],
        swapped=swapped(),
    )
    announce(loaded)  # whatever becomes of the forward, the load is measured
    if isinstance(batch, Ran):
        announce(batch)
    elif batch is not None:
        before = len(mapped.moments)
        ran = forward.watched(models[0], batch, loader.row, lambda phase: announce(Entered(phase)))
        announce(structs.replace(ran, moments=mapped.moments[before:]))


def failure_of(error: Exception) -> Failed:
    """What people are told of an exception; the traceback of one that nobody foresaw goes to standard error."""
    if isinstance(error, QfundError):
        return failure(error)
    if spent := exhausted(error):
        return failure(spent)
    traceback.print_exception(error)
    return failure(child.unexpected("Loading", error, "the traceback on standard error has the details"))


def main() -> None:
    incoming, outgoing = child.take_streams()
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
