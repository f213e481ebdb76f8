"""The measure ``classify``: the same texts or pictures in every precision, each alone, and the classes they get."""

import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import torch
from torch import Tensor

from qfund.core.errors import InvalidInput, UnsupportedModel
from qfund.core.progress import Progress
from qfund.features.outputs.request.classes import (
    SCHEMA,
    SCORE,
    SHOWN,
    SIGMOID,
    SOFTMAX,
    Classes,
    ClassesRequest,
    Item,
    checked,
)
from qfund.inputs import pictures
from qfund.models import environment, inputs, tasks
from qfund.models.forward import explained, run
from qfund.models.opened import Opened, opened
from qfund.precisions.precision import Precision
from qfund.precisions.table import PRECISIONS


def classify(request: ClassesRequest, progress: Progress = lambda phase, share: None) -> Classes:
    """Let the reference and every candidate classify every item.

    Raises:
        UnsupportedModel: a head that gives no classes.
        InvalidInput: a text that is longer than the model reads.
        QfundError: anything else that is wrong with the request or the model.
    """
    started = time.perf_counter()
    request = checked(request)
    names = (request.reference, *request.precisions)
    opening = opened(request, names, request.also, progress)
    if opening.task.gives != "labels":
        raise UnsupportedModel(
            f"{opening.found.architecture} ({opening.task.name}) has no head that gives classes to a text or picture.",
            "Choose a sequence or image classifier, or look at this one's texts or embeddings.",
        )
    config = tasks.read_config(opening.found)
    batches, called, notes = _inputs(request, opening)
    opening.size(names)
    logits = outputs(opening, request.reference, request.precisions, batches, progress, _logits)
    reading = _reading(config)
    labels = _labels(config, int(next(iter(logits.values()))[0].shape[-1]))
    return Classes(
        schema=SCHEMA,
        request=request,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        environment=environment.describe(opening.found.id, opening.revision),
        architecture=opening.found.architecture,
        task=opening.task.name,
        reads=opening.task.reads,
        reading=reading,
        classes=len(labels),
        items=tuple(
            _item(name, {key: rows[index] for key, rows in logits.items()}, request.reference, labels, reading)
            for index, name in enumerate(called)
        ),
        notes=tuple(notes),
        seconds=time.perf_counter() - started,
    )


def outputs(
    opening: Opened,
    reference: str,
    candidates: Sequence[str],
    batches: Sequence[inputs.Batch],
    progress: Progress,
    forward: Callable[[Any, inputs.Batch, Precision], Tensor],
) -> dict[str, list[Tensor]]:
    """Precision → what ``forward`` makes of each batch of one example, [features], in double precision."""
    grouped = opening.groups(reference, candidates)
    steps = sum(1 + len(group) for group in grouped) * (1 + len(batches))
    done = 0

    def step(phase: str) -> None:
        nonlocal done
        progress(phase, done / steps)
        done += 1

    found: dict[str, list[Tensor]] = {}
    for group in grouped:
        names = [reference, *group] if reference not in found else list(group)
        with opening.loaded(names, step) as models:
            for name, loaded in zip(names, models, strict=True):
                row, rows = PRECISIONS[name], []
                for batch in batches:
                    step(f"running {row.label}")
                    rows.append(_run(loaded.model, batch, row, forward))
                found[name] = rows
    return found


@torch.inference_mode()
def _run(
    model: Any, batch: inputs.Batch, row: Precision, forward: Callable[[Any, inputs.Batch, Precision], Tensor]
) -> Tensor:
    # A model that draws random numbers even in evaluation draws the same in every precision.
    with torch.random.fork_rng(devices=[]), explained(model, row):
        torch.manual_seed(0)
        return forward(model, batch, row).double().cpu()


def _logits(model: Any, batch: inputs.Batch, row: Precision) -> Tensor:
    logits: Tensor = run(model, batch, row).logits
    return logits[0]


def text_batch(reader: inputs.Reader, text: str, which: str) -> inputs.Batch:
    """One text alone, so that nothing is padded. Raises ``InvalidInput`` where it is longer than the model reads."""
    ids = reader.ids(text)
    if reader.longest is not None and len(ids) > reader.longest:
        raise InvalidInput(
            f"{which} is {len(ids):,} tokens long; this model reads at most {reader.longest:,}.", "Shorten it."
        )
    row = torch.tensor([ids])
    return inputs.Batch({"input_ids": row, "attention_mask": torch.ones_like(row)})


def _inputs(request: ClassesRequest, opening: Opened) -> tuple[list[inputs.Batch], list[str], list[str]]:
    """A batch for each item, its name, and notes."""
    if opening.task.reads == "text":
        reader = inputs.reader(opening.found)
        texts = enumerate(request.texts, 1)
        return [text_batch(reader, text, f"Text {number}") for number, text in texts], list(request.texts), []
    drawn = pictures.draw()
    values, how = inputs.pixel_values(opening.found, [picture.image for picture in drawn])
    batches = [inputs.Batch({"pixel_values": values[index : index + 1]}) for index in range(len(drawn))]
    notes = [f"{len(drawn)} pictures that qfund draws itself, {how}."]
    return batches, [picture.caption for picture in drawn], notes


def _reading(config: Any) -> str:
    if config.num_labels == 1:
        return SCORE
    return SIGMOID if config.problem_type == "multi_label_classification" else SOFTMAX


def _labels(config: Any, count: int) -> list[str]:
    named = getattr(config, "id2label", None) or {}
    return [str(named.get(index, f"class {index}")) for index in range(count)]


def _item(name: str, logits: dict[str, Tensor], reference: str, labels: list[str], reading: str) -> Item:
    finite = {key: row for key, row in logits.items() if row.isfinite().all()}
    shares = {key: _read(row, reading) for key, row in finite.items()}
    chosen = {key: _chosen(shares[key], reading) if key in shares else [] for key in logits}
    first = shares.get(reference, next(iter(shares.values()), torch.zeros(len(labels))))
    order = first.argsort(descending=True, stable=True).tolist()
    wanted = {*order[:SHOWN], *(index for indices in chosen.values() for index in indices)}
    kept = [index for index in order if index in wanted]
    best = finite[reference].topk(2).values if reference in finite and reading == SOFTMAX else None
    moved = {
        key: float((share - shares[reference]).abs().max())
        for key, share in shares.items()
        if key != reference and reference in shares
    }
    if reference in shares and reference in logits:
        moved.setdefault(reference, 0.0)  # as its own candidate
    return Item(
        name=name,
        labels=tuple(labels[index] for index in kept),
        values={key: tuple(shares[key][kept].tolist()) if key in shares else () for key in logits},
        chosen={key: tuple(labels[index] for index in indices) for key, indices in chosen.items()},
        gap=None if best is None else float(best[0] - best[1]),
        moved=moved,
    )


def _read(logits: Tensor, reading: str) -> Tensor:
    if reading == SCORE:
        return logits
    return logits.softmax(-1) if reading == SOFTMAX else logits.sigmoid()


def _chosen(shares: Tensor, reading: str) -> list[int]:
    if reading == SIGMOID:
        return [int(index) for index in (shares >= 0.5).nonzero()[:, 0]]
    return [int(shares.argmax())]
