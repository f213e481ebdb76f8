"""How fast the candidates of a comparison write, where that was measured on this machine."""

from collections.abc import Mapping

from qfund.checkpoints import catalog
from qfund.core.processor import cpu_name
from qfund.features.compare.request.spec import Spec
from qfund.features.speed.request.speed import Point, Run, Speed, SpeedRequest
from qfund.precisions.precision import STORED
from qfund.precisions.table import PRECISIONS


def asked(spec: Spec) -> SpeedRequest:
    """The same model, reference, precisions and files, to be timed."""
    known = (name for name in spec.precisions if PRECISIONS[name].family != STORED and name != spec.reference)
    gguf = tuple(file for file in spec.files if file.endswith(".gguf"))
    return SpeedRequest(spec.model, tuple(known), spec.reference, revision=spec.revision, also=spec.also, files=gguf)


def here(found: Speed, reference: str) -> bool:
    """Whether it was measured on this processor, beside this reference; of a GPU, whose name is not known without
    torch, that it was one."""
    if found.request.reference != reference:
        return False
    on_cpu = catalog.device() == "cpu"
    return on_cpu == (found.environment.device == "cpu") and (not on_cpu or found.environment.cpu == cpu_name())


def fastest(found: Speed) -> Mapping[str, tuple[Run, Point]]:
    """By precision (or file) the backend that writes fastest, at the smallest batch after the longest prompt."""
    batch, depth = found.place
    best: dict[str, tuple[Run, Point]] = {}
    for run in found.runs[1:]:
        point = run.at(batch, depth)
        if run.precision not in best or point.decode_ratio.median > best[run.precision][1].decode_ratio.median:
            best[run.precision] = run, point
    return best
