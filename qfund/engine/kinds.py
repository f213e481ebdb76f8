"""The ONE table of what can be asked of a model: the type of the request, and the measure that answers it.

A request is a frozen dataclass with a ``model`` and a ``revision``, its result plain data that msgspec encodes; neither
needs torch. Everything is named as ``"module:object"`` and imported when it is needed.
"""

import importlib
from dataclasses import dataclass
from typing import Any

import msgspec

from qfund.spec import Request


def lazily(name: str) -> Any:
    """The object that ``"module:object"`` names, imported now."""
    module, _, found = name.partition(":")
    return getattr(importlib.import_module(module), found)


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of job.

    Attributes:
        request, result: types.
        measure: ``(request, progress) -> result``, in a process that may import torch.
        check: ``(request) -> request`` in its one canonical form, or a ``QfundError``; None where every value is good.
        identify: ``(request) -> str``: the content of the model, and the device.
        schema: version of the stored results, raised whenever their meaning or shape changes. None for reports, which
            say their own and are listed.
    """

    name: str
    request: str
    result: str
    measure: str
    check: str | None = None
    identify: str = "qfund.catalog:identity"
    schema: int | None = 1

    def checked(self, request: Any) -> Any:
        return lazily(self.check)(request) if self.check else request

    def read_request(self, document: bytes | msgspec.Raw) -> Any:
        """Raises ``msgspec.DecodeError`` for a document of another shape."""
        return msgspec.json.decode(document, type=lazily(self.request))

    def read_result(self, document: bytes | msgspec.Raw) -> Any:
        """Raises ``msgspec.DecodeError`` for a document of another shape."""
        return msgspec.json.decode(document, type=lazily(self.result))


KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind(
            "compare",
            "qfund.spec:Spec",
            "qfund.report:Report",
            "qfund.measures.compare:compare",
            check="qfund.spec:checked",
            schema=None,
        ),
        Kind(
            "plan",
            "qfund.plan:PlanRequest",
            "qfund.plan:Plan",
            "qfund.measures.plan:plan",
            check="qfund.plan:checked",
        ),
        Kind(
            "fits",
            "qfund.fits:FitsRequest",
            "qfund.fits:Fits",
            "qfund.measures.fits:fits",
            check="qfund.fits:checked",
        ),
        Kind(
            "load-peak",
            "qfund.load_peaks:LoadPeakRequest",
            "qfund.load_peaks:LoadPeaks",
            "qfund.measures.load_peak:load_peak",
            check="qfund.load_peaks:checked",
            schema=2,
        ),
        Kind(
            "caption",
            "qfund.captions:CaptionRequest",
            "qfund.captions:Captions",
            "qfund.measures.caption:caption",
            check="qfund.captions:checked",
        ),
        Kind(
            "generate",
            "qfund.generation:GenerationRequest",
            "qfund.generation:Generation",
            "qfund.measures.generate:generate",
            check="qfund.generation:checked",
        ),
        Kind(
            "classify",
            "qfund.classes:ClassesRequest",
            "qfund.classes:Classes",
            "qfund.measures.classify:classify",
            check="qfund.classes:checked",
        ),
        Kind(
            "embed",
            "qfund.embeddings:EmbeddingsRequest",
            "qfund.embeddings:Embeddings",
            "qfund.measures.embed:embed",
            check="qfund.embeddings:checked",
        ),
        Kind(
            "lesson",
            "qfund.lessons:LessonRequest",
            "qfund.lessons:Lesson",
            "qfund.measures.lesson:lesson",
            check="qfund.lessons:checked",
        ),
    )
}


def kind_of(request: Request) -> Kind:
    """The row for a request of this type.

    Raises:
        TypeError: there is none.
    """
    name = f"{type(request).__module__}:{type(request).__qualname__}"
    for kind in KINDS.values():
        if kind.request == name:
            return kind
    raise TypeError(f"No kind of job has requests of type {name}: add a row to KINDS.")
