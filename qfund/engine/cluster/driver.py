"""Hands jobs to Ray, one at a time: ``python -m qfund.engine.cluster.driver``, which speaks as a worker does
(``qfund.engine.messages``).

The task is this process's: however it ends, Ray ends the task, and so a job is cancelled as everywhere, by ending what
does it. A task whose machine is gone is handed over again.
"""

import logging
import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import msgspec

from qfund.checkpoints import catalog
from qfund.checkpoints.needs import SHARE
from qfund.core.errors import EngineError, InvalidSpec, OutOfBudget, QfundError
from qfund.core.feature import Kind
from qfund.core.names import look_up
from qfund.core.request import Request
from qfund.engine import child, cluster, messages
from qfund.engine.cluster import needs as resources
from qfund.engine.cluster.needs import Needs
from qfund.engine.cluster.task import Order, work
from qfund.engine.kinds import KINDS
from qfund.engine.lane import HANDED
from qfund.engine.worker import Channel, failure_of, leave
from qfund.version import VERSION

#: Seconds between two looks at what the cluster has while a job waits for a machine, and for which it is waited for one
#: that would do.
LOOK, PATIENCE = 2.0, 60.0
#: Beyond what was planned for it a job may take half as much again.
SLACK = 1.5
#: Settings that decide what a job gives and may do; all others are the other machine's own.
_CARRIED = ("QFUND_ALLOW", "QFUND_DEVICE", "QFUND_PUBLIC")


def carried(needs: Needs) -> dict[str, str]:
    """Settings of here that a job has there. Of the GPUs of a machine Ray shows a task its own alone, as the first."""
    given = {name: os.environ[name] for name in _CARRIED if name in os.environ}
    return given | ({"QFUND_DEVICE": "cuda"} if needs.gpus else {})


class _Gone(Exception):
    """What ran the task is gone."""


class Driver:
    """A connection to the cluster, made before the first job."""

    def __init__(self, channel: Channel, module: str) -> None:
        self._channel = channel
        self._module = module
        self._ray: Any = None
        self._last: Any = None  # events of its last task
        self._machine = ""  # where its last job ran: what did it is still there, with its libraries

    def connect(self) -> Any:
        """Ray, connected.

        Raises:
            EngineError: the cluster does not answer.
        """
        if self._ray is None:
            os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
            import ray

            try:
                ray.init(address=cluster.address(), log_to_driver=False, logging_level=logging.ERROR, namespace="qfund")
            except Exception as error:  # of a dozen kinds
                raise EngineError(
                    f"The cluster at {cluster.address()} does not answer: {' '.join(str(error).split())[:300]}",
                    "See that it runs, and that this machine has joined it (ray start --address=…).",
                ) from error
            signal.signal(signal.SIGTERM, lambda *_: leave())  # Ray's own takes its time
            self._ray = ray
        return self._ray

    def perform(self, kind: Kind, request: Request, line: bytes) -> None:
        """Hand a job over and its events back.

        Raises:
            QfundError: no machine will do, or all that began it are gone.
        """
        self._channel.send(messages.Waiting("asking the cluster"))
        self.connect()
        folder = None
        with suppress(QfundError):
            source = catalog.locate(request.model, request.revision)
            folder = str(source.folder) if source.kind == "folder" else None
        wanted = resources.of(kind, request)
        needs = resources.placed(wanted, self._nodes())
        given = carried(needs)
        for attempt in range(1, HANDED + 1):
            if attempt > 1:
                with suppress(OutOfBudget):  # the machine that would do may come back
                    needs = resources.placed(wanted, self._nodes())
            limits = {
                "OMP_NUM_THREADS": str(needs.cpus),
                "QFUND_MODEL_BUDGET_GIB": f"{needs.memory * SHARE / 1024**3:.3f}",
            }
            order = Order(
                self._module, line, given | limits, int(SLACK * needs.memory), VERSION, str(Path.cwd()), folder
            )
            try:
                for event in self._events(order, needs, again=attempt > 1):
                    self._channel.send(event)
                    if isinstance(event, messages.Done | messages.Failed):
                        return  # whatever becomes of the machine now: what is sent from here on is the next job's
            except _Gone:
                self._machine = ""
        raise EngineError(
            f"The machines of the cluster that ran this job are gone, {HANDED} in turn.",
            "If it was the job that ended them, choose a smaller model or fewer tokens; otherwise start it again.",
        )

    def _nodes(self) -> list[dict[str, float]]:
        """What each machine has, all in all."""
        return [node["Resources"] for node in self._ray.nodes() if node["Alive"]]

    def _events(self, order: Order, needs: Needs, again: bool) -> Iterator[messages.Event]:
        ray = self._ray
        gone = ray.exceptions
        self._channel.send(messages.Waiting(f"waiting for a machine with {needs}", again))
        options = needs.options()
        if self._machine:
            there = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy
            options["scheduling_strategy"] = there(self._machine, soft=True, _spill_on_unavailable=True)
        task = ray.remote(max_retries=0, num_returns="streaming")(work).options(**options)
        if self._last is not None:  # until that has given its place back, the next one would go elsewhere
            with suppress(Exception):
                ray.get(self._last.completed(), timeout=1.0)
        self._last = events = task.remote(order)
        try:
            self._await(events, needs)
            for reference in events:
                event = messages.event(ray.get(reference))
                if isinstance(event, messages.Ready):
                    self._machine = event.machine
                else:
                    yield event
        except gone.OutOfMemoryError as error:
            raise OutOfBudget(
                "The memory of the machine that ran this job ran out.",
                "Choose a smaller model, a shorter context or fewer tokens.",
            ) from error
        except (gone.WorkerCrashedError, gone.NodeDiedError, gone.ObjectLostError, gone.LocalRayletDiedError) as error:
            raise _Gone from error
        except gone.RayError as error:
            raise EngineError(
                f"The cluster cannot run this job: {' '.join(str(error).split())[-500:]}",
                "See that qfund is installed on its machines; the server's log has the details.",
            ) from error

    def _await(self, events: Any, needs: Needs) -> None:
        """Until the task says something. Raises ``OutOfBudget`` if for long no machine has been there that would do."""
        hopeless = None
        while not self._ray.wait([events], timeout=LOOK)[0]:
            try:
                resources.placed(replace(needs, cpus=1), self._nodes())
                hopeless = None
            except OutOfBudget:
                hopeless = hopeless or time.monotonic()
                if time.monotonic() - hopeless > PATIENCE:
                    self._ray.cancel(events, force=True)
                    raise


def answer(channel: Channel, driver: Driver, line: bytes) -> None:
    """Do what one request asks."""
    try:
        message = messages.request(line)
        if isinstance(message, messages.Warm):
            with suppress(EngineError):  # told when a job needs it
                driver.connect()
            return
        kind = look_up(KINDS, message.kind, "kind of job")
        driver.perform(kind, kind.read_request(message.request), line)
    except msgspec.DecodeError as error:
        channel.send(messages.failure(InvalidSpec(f"Not a request: {error}.")))
    except Exception as error:
        channel.send(failure_of(error))


def main(module: str = "qfund.engine.worker") -> NoReturn:
    channel = Channel(*child.take_streams())
    driver = Driver(channel, module)
    channel.send(messages.Ready())
    while True:
        answer(channel, driver, channel.receive())


if __name__ == "__main__":
    main()
