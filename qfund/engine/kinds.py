"""The ONE table of what can be asked of a model: the type of the request, and the measure that answers it.

A request is a frozen dataclass with a ``model`` and a ``revision``, its result plain data that msgspec encodes; neither
needs torch. Everything is named as ``"module:object"`` and imported when it is needed.
"""

import importlib
from dataclasses import dataclass
from typing import Any

import msgspec

from qfund.core.request import Request


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
    identify: str = "qfund.checkpoints.catalog:identity"
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
            "qfund.features.compare.request.spec:Spec",
            "qfund.features.compare.request.report:Report",
            "qfund.features.compare.measure.compare:compare",
            check="qfund.features.compare.request.spec:checked",
            schema=None,
        ),
        Kind(
            "plan",
            "qfund.features.memory.request.plan:PlanRequest",
            "qfund.features.memory.request.plan:Plan",
            "qfund.features.memory.measure.plan:plan",
            check="qfund.features.memory.request.plan:checked",
        ),
        Kind(
            "fits",
            "qfund.features.memory.request.fits:FitsRequest",
            "qfund.features.memory.request.fits:Fits",
            "qfund.features.memory.measure.fits:fits",
            check="qfund.features.memory.request.fits:checked",
        ),
        Kind(
            "load-peak",
            "qfund.features.memory.request.load_peak:LoadPeakRequest",
            "qfund.features.memory.request.load_peak:LoadPeaks",
            "qfund.features.memory.measure.load_peak:load_peak",
            check="qfund.features.memory.request.load_peak:checked",
            schema=2,
        ),
        Kind(
            "caption",
            "qfund.features.captions.request:CaptionRequest",
            "qfund.features.captions.request:Captions",
            "qfund.features.captions.measure.caption:caption",
            check="qfund.features.captions.request:checked",
        ),
        Kind(
            "generate",
            "qfund.features.outputs.request.generation:GenerationRequest",
            "qfund.features.outputs.request.generation:Generation",
            "qfund.features.outputs.measure.generate:generate",
            check="qfund.features.outputs.request.generation:checked",
        ),
        Kind(
            "classify",
            "qfund.features.outputs.request.classes:ClassesRequest",
            "qfund.features.outputs.request.classes:Classes",
            "qfund.features.outputs.measure.classify:classify",
            check="qfund.features.outputs.request.classes:checked",
        ),
        Kind(
            "embed",
            "qfund.features.outputs.request.embeddings:EmbeddingsRequest",
            "qfund.features.outputs.request.embeddings:Embeddings",
            "qfund.features.outputs.measure.embed:embed",
            check="qfund.features.outputs.request.embeddings:checked",
        ),
        Kind(
            "lesson",
            "qfund.features.lesson.request.lesson:LessonRequest",
            "qfund.features.lesson.request.lesson:Lesson",
            "qfund.features.lesson.measure:lesson",
            check="qfund.features.lesson.request.lesson:checked",
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
