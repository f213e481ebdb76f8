"""A model in several precisions at once, as those measures need it that run all of them on the same thing."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace

import torch

from qfund.checkpoints import catalog, checkpoint, hub
from qfund.checkpoints.wild import against
from qfund.checkpoints.wild.filling import filled
from qfund.checkpoints.wild.locating import fetched
from qfund.checkpoints.wild.table import open_file
from qfund.core.errors import OutOfBudget, UnsupportedModel, about
from qfund.core.progress import Progress
from qfund.core.request import Request
from qfund.core.units import bytes_text
from qfund.models import prequantized, tasks
from qfund.models.cache import model_cache
from qfund.models.loading import LoadedModel
from qfund.models.skeleton import Skeletons
from qfund.precisions.caches import weights_of
from qfund.precisions.files import file_names, is_file, label_of, row_of
from qfund.precisions.precision import STORED
from qfund.precisions.recipes import is_recipe
from qfund.precisions.table import PRECISIONS, precision, require


def groups(reference: str, candidates: Sequence[str], sizes: Mapping[str, int], budget: int) -> list[list[str]]:
    """Candidates in groups whose models fit in the budget (bytes) beside the reference, in order.

    Raises:
        OutOfBudget: the reference and one candidate do not fit together.
    """
    free = budget - sizes[reference]
    found: list[list[str]] = []
    left = 0
    for name in candidates:
        weights = weights_of(name)  # another cache, or the reference as its own candidate: they are there already
        held = (reference, *map(weights_of, found[-1] if found else ()))
        size = 0 if weights in held else sizes[weights]
        if size > free:
            raise OutOfBudget(
                f"{row_of(reference).label} and {row_of(name).label} together need "
                f"{bytes_text(sizes[reference] + size)}; this process may hold {bytes_text(budget)}.",
                "Choose a smaller model or reference, or raise QFUND_MODEL_BUDGET_GIB on a machine with more memory.",
            )
        if not found or size > left:
            found.append([])
            left = free
        found[-1].append(name)
        left -= size
    return found


@dataclass(frozen=True, slots=True)
class Opened:
    """A checkpoint that is there, whose precisions can all run here. ``sizes``: precision → bytes to make room for;
    ``notes``: what the files hold besides the model, as soon as it is known. ``files``: name of a quantised file among
    the candidates → the checkpoint with its weights; ``notes_of_files`` is what those say otherwise."""

    source: catalog.Source
    found: checkpoint.Checkpoint
    task: tasks.Task
    revision: str | None
    also: tuple[str, ...]
    sizes: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    unread: set[str] = field(default_factory=set)
    files: Mapping[str, checkpoint.Checkpoint] = field(default_factory=dict)
    notes_of_files: tuple[str, ...] = ()

    def size(self, names: Sequence[str]) -> dict[str, int]:
        """Predict what these precisions take: bytes, of those that can be predicted; room is set aside for all.

        Raises:
            NothingConverted: one of them would leave the model as it is.
        """
        skeletons = Skeletons(self.found)
        rows = [PRECISIONS[name] for name in names if name not in self.files]
        predicted = {}
        for row in rows:
            if row.family != STORED:
                with about(row.name):
                    predicted[row.name] = skeletons.footprint(row, self.also).bytes
        self.notes[:] = skeletons.notes
        self.unread.update(skeletons.unread)
        self.sizes.update({name: _room(found) for name, found in self.files.items()})
        self.sizes.update({row.name: predicted.get(row.name, _room_as_stored(self.found)) for row in rows})
        return predicted

    @property
    def as_read(self) -> checkpoint.Checkpoint:
        """The checkpoint less what no module reads, as far as that is known: a walk need not look at it."""
        read = {name: tensor for name, tensor in self.found.tensors.items() if name not in self.unread}
        return replace(self.found, tensors=read)

    def groups(self, reference: str, candidates: Sequence[str]) -> list[list[str]]:
        """Candidates that fit into the budget beside the reference. Raises ``OutOfBudget``."""
        return groups(reference, candidates, self.sizes, model_cache().budget)

    @contextmanager
    def loaded(self, names: Sequence[str], step: Callable[[str], None]) -> Iterator[list[LoadedModel]]:
        """These precisions of the model, from the one cache; ``step`` is told of each."""
        with ExitStack() as stack:
            models = []
            for name in names:
                row = row_of(name)
                step(f"loading {row.label}")
                weights = weights_of(name)
                found = self.files.get(weights, self.found)
                lease = model_cache().lease(found, row, self.sizes[weights], self.also)
                models.append(stack.enter_context(lease))
            yield models


def opened(request: Request, names: Sequence[str], also: tuple[str, ...], progress: Progress) -> Opened:
    """The checkpoint that a request names, fetched where it comes from the Hub.

    Raises:
        QfundError: it is not there, cannot be read, or not in one of these precisions.
    """
    progress("reading the checkpoint", 0.0)
    source = catalog.locate(request.model, request.revision)
    folder, revision = source.folder, None
    if folder is None:
        folder, revision = hub.download(source.name, source.revision, model_cache().budget, progress)
    found = checkpoint.read(folder)
    if found.quantization is not None:  # first of all, so that nobody is told to choose what will be refused too
        prequantized.readable(found, torch.device(catalog.device()))
    for row in [precision(name) for name in names if not is_file(name)]:
        require(row, catalog.device())
        prequantized.check(found, row.family == STORED, row.label)
    files, notes = _filled(getattr(request, "files", ()), found, progress) if any(map(is_file, names)) else ({}, ())
    return Opened(source, found, tasks.task_of(found), revision, also, files=files, notes_of_files=notes)


def _filled(
    files: Sequence[str], original: checkpoint.Checkpoint, progress: Progress
) -> tuple[dict[str, checkpoint.Checkpoint], tuple[str, ...]]:
    """The original with the weights of each file, and what these say otherwise.

    Raises:
        QfundError: one is not there, cannot be read, or is no quantised form of the original.
    """
    found, notes = dict[str, checkpoint.Checkpoint](), list[str]()
    for name, given in file_names(files).items():
        progress(f"reading {given}", 0.0)
        path = fetched(given, model_cache().budget, progress)
        if is_recipe(path):
            raise UnsupportedModel(
                f"{label_of(name)} is a recipe; texts are written with quantised files alone.",
                "Compare it (qfund compare --file), or write with the precisions that it is made of.",
            )
        file = open_file(path)
        found[name] = filled(original, file)
        notes += [f"{label_of(name)}: {note}" for note in (*file.notes, *against.notes(original, file))]
    return found, tuple(notes)


def _room(found: checkpoint.Checkpoint) -> int:
    """Bytes of a quantised file's weights in FP32."""
    return sum(4 * tensor.elements for tensor in found.packed.values())


def _room_as_stored(found: checkpoint.Checkpoint) -> int:
    """Bytes to set aside for a checkpoint that is quantised: some libraries unpack it to 16 bits as they run it."""
    return 4 * sum(tensor.bytes for tensor in found.tensors.values())
