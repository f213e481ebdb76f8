"""What a feature's row says: its page, its kinds of job, its commands. Everything heavy is named as ``"module:object"``
and imported when it is needed."""

import gc
import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import msgspec


def lazily(name: str) -> Any:
    """The object that ``"module:object"`` names, imported now."""
    module, _, found = name.partition(":")
    collecting = gc.isenabled()
    gc.disable()  # what is imported stays: to look for garbage in it again and again takes an eighth of the time
    try:
        return getattr(importlib.import_module(module), found)
    finally:
        if collecting:
            gc.enable()


@dataclass(frozen=True, slots=True)
class Shared:
    """What a chat shows for a link: ``picture`` makes a PNG of 1200 × 630 pixels."""

    title: str
    description: str
    picture: Callable[[], bytes]


@dataclass(frozen=True, slots=True)
class Page:
    """A page: ``pages/<path>.py``, whose name is its address too.

    Attributes:
        title: its one name: in the navigation, above the page and in the browser's tab.
        description: what it is for, in a sentence or two: under the title, and what a chat shows for a link to it.
        group: heading in the navigation.
        default: whether it is what the server's address alone opens; ``/<path>`` opens it too.
        former: what else links call it → parameters that open there what it was.
        shared: ``(query) -> Shared | None``: what a link with these parameters leads to, where that is known.
    """

    path: str
    title: str
    icon: str
    description: str = ""
    group: str = ""
    default: bool = False
    former: Mapping[str, str] = field(default_factory=dict)
    shared: str | None = None

    @property
    def tab(self) -> str:
        """Its name in the browser's tab."""
        return f"{self.title} · qfund"


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of job.

    A request is a frozen dataclass with a ``model`` and a ``revision``, its result plain data that msgspec encodes;
    neither needs torch.

    Attributes:
        request, result: types.
        measure: ``(request, progress) -> result``, in a process that may import torch.
        check: ``(request) -> request`` in its one canonical form, or a ``QfundError``; None where every value is good.
        identify: ``(request) -> str``: the content of the model, and the device.
        memory: ``(request) -> int``: bytes to plan for the process that measures, from headers alone.
        schema: version of the stored results, raised whenever their meaning or shape changes.
        listed: type of a line of the listing of stored results, with ``of(key, result)``; None where nobody lists them.
        consistent: ``(result) -> None``, or an ``EngineError`` for one whose numbers contradict each other; every
            result goes through it before it is shown or stored. None where nothing is said twice.
        renewed: ``(result) -> result``: one that was kept, as it would be worked out today; None where nothing changes.
        at_once: ``(request) -> object`` that files alone tell within milliseconds; None where there is nothing.
        quick: whether it takes seconds and little memory, reads no weights, and so may be asked for by opening a link.
            Such jobs never wait behind others, and are ended after a shorter time.
        elsewhere: ``(request) -> request`` of a quick kind, whose result is what ``at_once`` gives, for a model that is
            not on this machine.
    """

    name: str
    request: str
    result: str
    measure: str
    check: str | None = None
    identify: str = "qfund.checkpoints.catalog:identity"
    memory: str = "qfund.checkpoints.needs:whole"
    schema: int = 1
    listed: str | None = None
    at_once: str | None = None
    consistent: str | None = None
    renewed: str | None = None
    quick: bool = False
    elsewhere: str | None = None

    def checked(self, request: Any) -> Any:
        return lazily(self.check)(request) if self.check else request

    def published(self, result: Any) -> Any:
        """The result as it is. Raises ``EngineError`` where it contradicts itself."""
        if self.consistent:
            lazily(self.consistent)(result)
        return result

    def read_request(self, document: "bytes | msgspec.Raw") -> Any:
        """Raises ``msgspec.DecodeError`` for a document of another shape."""
        import msgspec  # the rows are read for `qfund --help` too, which needs none of it

        return msgspec.json.decode(document, type=lazily(self.request))

    def read_result(self, document: "bytes | msgspec.Raw") -> Any:
        """Raises ``msgspec.DecodeError`` for a document of another shape."""
        import msgspec

        found = msgspec.json.decode(document, type=lazily(self.result))
        return lazily(self.renewed)(found) if self.renewed else found


@dataclass(frozen=True, slots=True)
class Feature:
    """One thing that a person does.

    Attributes:
        name: of its folder in ``qfund/features/``.
        page: where it has one.
        kinds: of jobs.
        commands: name of a sub-command → what it does, in one line of ``qfund --help``. It is the ``COMMAND`` of
            ``command.py``; where a feature has several, of the file of its name in ``command/``.
        warm: modules that its first chart needs, imported while the first visitor still reads.
    """

    name: str
    page: Page | None = None
    kinds: tuple[Kind, ...] = ()
    commands: Mapping[str, str] = field(default_factory=dict)
    warm: tuple[str, ...] = ()
