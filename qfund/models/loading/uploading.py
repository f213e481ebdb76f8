"""Weights copied to a GPU while it computes: through two buffers that the system may not move, in their own queue.

A copy from ordinary memory holds up whoever asks for it, and stands in the one queue with what is computed. Here a
thread fills a buffer, has it copied from, and fills the other meanwhile; what is computed waits for the copies that it
needs. Three orders are kept:

- a buffer is not filled again before what it held was copied;
- memory on the device is not copied to before what was asked earlier is computed: it may be memory that was freed;
- nothing is computed with a tensor before its copy has ended.
"""

from collections.abc import Mapping
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Any, Protocol

import torch
from torch import Tensor

#: Bytes of one buffer: a copy of so many takes a millisecond, in which starting it is little.
BUFFER = 32 * 1024**2


class Event(Protocol):
    """A place in a queue."""

    def synchronize(self) -> None:
        """Wait until the queue has come there."""


class Queues(Protocol):
    """What a device has been given to do: one queue of computing, and one of copies."""

    def buffer(self, size: int) -> Tensor:
        """[size] bytes of main memory that the device can read by itself."""

    def empty(self, tensor: Tensor) -> Tensor:
        """Memory on the device for such a tensor."""

    def asked(self) -> Event:
        """The end of the queue of computing, now."""

    def copy(self, source: Tensor, into: Tensor) -> Event:
        """Have it copied, by and by."""

    def copies_wait_for(self, event: Event) -> None: ...

    def computing_waits_for(self, event: Event) -> None: ...


class DeviceQueues:
    """Of a device of torch's: CUDA, or another with streams."""

    def __init__(self, device: torch.device) -> None:
        self._device, self._module = device, torch.get_device_module(device)
        self._copies: Any = self._module.Stream(device)

    def buffer(self, size: int) -> Tensor:
        return torch.empty(size, dtype=torch.uint8, pin_memory=True)

    def empty(self, tensor: Tensor) -> Tensor:
        return torch.empty(tensor.shape, dtype=tensor.dtype, device=self._device)

    def asked(self) -> Event:
        found: Event = self._module.current_stream(self._device).record_event()
        return found

    def copy(self, source: Tensor, into: Tensor) -> Event:
        with self._module.stream(self._copies):
            into.copy_(source, non_blocking=True)
            found: Event = self._copies.record_event()
        return found

    def copies_wait_for(self, event: Event) -> None:
        self._copies.wait_event(event)

    def computing_waits_for(self, event: Event) -> None:
        self._module.current_stream(self._device).wait_event(event)


class Arriving:
    """``tensors`` on the device, which hold nothing before ``wait``. They must not be let go before that."""

    def __init__(self, tensors: Mapping[str, Tensor], queues: Queues, copied: Future[list[Event]]) -> None:
        self.tensors = tensors
        self._queues, self._copied = queues, copied

    def wait(self) -> None:
        """What is computed from here on may use them. Raises what copying raised."""
        for event in self._copied.result():
            self._queues.computing_waits_for(event)


class Uploads:
    """Copies to one device, one after the other."""

    def __init__(self, queues: Queues, size: int = BUFFER, pool: Executor | None = None) -> None:
        self._queues, self._size = queues, size
        self._pool = pool or ThreadPoolExecutor(1, "upload")
        self._buffers: list[tuple[Tensor, Event | None]] = []

    def begin(self, tensors: Mapping[str, Tensor]) -> Arriving:
        """Those of one memory are copied once."""
        made = {id(tensor): (tensor, self._queues.empty(tensor)) for tensor in tensors.values()}
        asked = self._queues.asked()
        copied = self._pool.submit(self._copy, list(made.values()), asked)
        return Arriving({name: made[id(tensor)][1] for name, tensor in tensors.items()}, self._queues, copied)

    def close(self) -> None:
        """Wait for all that was begun; for what fails nobody waits."""
        self._pool.shutdown()
        for _, event in self._buffers:
            if event is not None:
                event.synchronize()
        self._buffers.clear()

    @torch.inference_mode()  # as whoever made them may be
    def _copy(self, pairs: list[tuple[Tensor, Tensor]], asked: Event) -> list[Event]:
        """The last copy, after which the others have ended too."""
        last: list[Event] = []
        self._queues.copies_wait_for(asked)
        for tensor, into in pairs:
            source, target = _bytes(tensor.contiguous()), _bytes(into)
            for start in range(0, len(source), self._size):
                part = source[start : start + self._size]
                buffer = self._free()[: len(part)]
                buffer.copy_(part)
                event = self._queues.copy(buffer, target[start : start + len(part)])
                self._buffers[-1] = self._buffers[-1][0], event
                last = [event]
        return last

    def _free(self) -> Tensor:
        """The buffer that was used before the other one, once it has been copied; it is the last now."""
        if len(self._buffers) < 2:
            self._buffers.append((self._queues.buffer(self._size), None))
        else:
            self._buffers.reverse()
        buffer, event = self._buffers[-1]
        if event is not None:
            event.synchronize()
        return buffer


def _bytes(tensor: Tensor) -> Tensor:
    return tensor.reshape(-1).view(torch.uint8)
