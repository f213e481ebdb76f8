"""What is timed: every precision by every backend that runs here, and GGUF files by llama.cpp."""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

import torch

from qfund.checkpoints import catalog
from qfund.checkpoints.wild.locating import fetched
from qfund.checkpoints.wild.table import open_file
from qfund.core.errors import QfundError
from qfund.core.progress import Progress
from qfund.features.speed.measure import compiled, gguf
from qfund.features.speed.measure.turns import Writer
from qfund.features.speed.measure.writing import ModelWriter
from qfund.features.speed.request.speed import COMPILED, LLAMA, OWN, TORCH, SpeedRequest
from qfund.models.cache import model_cache
from qfund.models.loading import LoadedModel, read
from qfund.models.opened import Opened
from qfund.precisions import backends
from qfund.precisions.backends import Implementation
from qfund.precisions.files import file_names, label_of
from qfund.precisions.table import PRECISIONS


class Timed(Writer, Protocol):
    """What writes, and says what it holds."""

    @property
    def stored_bytes(self) -> int: ...
    @property
    def read_bytes(self) -> int: ...
    def cache_bytes(self, batch: int, depth: int) -> int: ...
    def flops(self, batch: int, depth: int) -> int: ...


@dataclass(frozen=True, slots=True)
class Made:
    """A model that is timed. ``decode`` decodes every converted weight once."""

    precision: str
    backend: str
    writer: Timed
    load_seconds: float
    decode: Callable[[], object] | None = None
    call: str = ""
    note: str | None = None
    problem: str | None = None
    compile_seconds: float | None = None

    @property
    def key(self) -> str:
        return f"{self.precision} by {self.backend}"


def made(
    request: SpeedRequest,
    opened: Opened,
    vocabulary: int,
    loaded: Mapping[str, LoadedModel],
    refused: dict[str, str],
    progress: Progress,
) -> Iterator[Made]:
    """The reference, then every precision by every backend that is asked for and runs here; ``refused`` takes why the
    others do not."""
    for name, own in loaded.items():
        row = PRECISIONS[name]
        backend = OWN if row.quantizer else TORCH
        if name == request.reference or _wants(request, backend):
            decode = _decoding(own) if row.quantizer and row.product is None else None
            writer = ModelWriter(own.model, row, vocabulary)
            yield Made(name, backend, writer, own.seconds, decode, note=own.note)
        if COMPILED in request.backends:
            progress(f"compiling {row.label}", 0.0)
            key = f"{name} by {COMPILED}"
            found = compiled.missing() or _compiled(request, name, own, vocabulary)
            if isinstance(found, str):
                refused[key] = found
            else:
                yield found
        for implementation in backends.implementations(name):
            if not _wants(request, implementation.backend):
                continue
            key = f"{name} by {implementation.backend}"
            found = backends.unavailable(implementation, catalog.device()) or _converted(
                opened, implementation, own, vocabulary
            )
            if isinstance(found, str):
                refused[key] = found
            else:
                yield found


def files(request: SpeedRequest, refused: dict[str, str], progress: Progress) -> Iterator[Made]:
    """GGUF files, as llama.cpp runs them.

    Raises:
        QfundError: a file that is not there, or is none.
    """
    if not _wants(request, LLAMA):
        return
    for name, given in file_names(request.files).items():
        progress(f"reading {given}", 0.0)
        path = fetched(given, model_cache().budget, progress)
        file = open_file(path)
        key = f"{label_of(name)} by {LLAMA}"
        if file.format != "gguf":
            refused[key] = f"It is {file.label}, and llama.cpp runs GGUF files. Compare has it: qfund compare … --file."
        elif not gguf.installed():
            refused[key] = gguf.INSTALL
        else:
            started = time.perf_counter()
            try:
                writer = gguf.GgufWriter(path, file, torch.get_num_threads())
            except QfundError as error:
                refused[key] = str(error)
                continue
            call = f"llama_cpp.Llama({path.name!r})"
            yield Made(name, LLAMA, writer, time.perf_counter() - started, call=call, note=file.label)


def _wants(request: SpeedRequest, backend: str) -> bool:
    return not request.backends or backend in request.backends


def _decoding(own: LoadedModel) -> Callable[[], object]:
    parts = [own.model.get_submodule(name) for name in own.converted]
    return lambda: [part.weight for part in parts if isinstance(getattr(type(part), "weight", None), property)]


def _compiled(request: SpeedRequest, name: str, own: LoadedModel, vocabulary: int) -> Made | str:
    """The same weights with compiled steps, or why there are none."""
    row, longest = PRECISIONS[name], max(request.depths) + request.new_tokens
    try:
        writer = compiled.CompiledWriter(own.model, row, vocabulary, longest)
        writer.compile(request.batches)
    except QfundError as error:
        return str(error)
    return Made(name, COMPILED, writer, own.seconds, call="torch.compile", compile_seconds=writer.compile_seconds)


def _converted(opened: Opened, row: Implementation, own: LoadedModel, vocabulary: int) -> Made | str:
    """A library's model, or why there is none."""
    try:
        converter = row.load()  # imports the library, which is no part of loading a model
        started = time.perf_counter()
        model = read(opened.found, PRECISIONS[row.precision].dtype).to(own.model.device)
        conversion = converter.apply(model, own.converted)
        seconds = time.perf_counter() - started
        ModelWriter(model, PRECISIONS[row.precision], 2).begin(1, 1)
    except QfundError as error:
        return str(error)
    except (RuntimeError, ValueError, TypeError, NotImplementedError, AssertionError, ImportError) as error:
        # Libraries raise whatever comes to hand for a shape or a dtype that their kernels do not take.
        return f"{row.backend} fails on this model: {type(error).__name__}: {' '.join(str(error).split())[:300]}"
    parts = [model.get_submodule(name) for name in conversion.converted]
    decodes = converter.decodes and PRECISIONS[row.precision].product is None
    left = f"It leaves {len(conversion.left)} modules as they are." if conversion.left else ""
    return Made(
        precision=row.precision,
        backend=row.backend,
        writer=ModelWriter(model, PRECISIONS[row.precision], vocabulary),
        load_seconds=seconds,
        decode=(lambda: [converter.values(part) for part in parts]) if decodes else None,
        call=row.call,
        note=" ".join(filter(None, (row.note, left))) or None,
        problem=conversion.problem,
    )
