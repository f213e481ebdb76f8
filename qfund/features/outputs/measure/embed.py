"""The measure ``embed``: one vector for each text in every precision, and which sentences are near a query."""

import time
from datetime import UTC, datetime
from typing import Any

import torch
from torch import Tensor

from qfund.core.errors import UnsupportedModel
from qfund.core.progress import Progress
from qfund.features.outputs.measure.classify import outputs, text_batch
from qfund.features.outputs.request.embeddings import SCHEMA, Embedded, Embeddings, EmbeddingsRequest, checked
from qfund.models import environment, inputs, tasks
from qfund.models.forward import run
from qfund.models.opened import opened
from qfund.precisions.precision import Precision


def embed(request: EmbeddingsRequest, progress: Progress = lambda phase, share: None) -> Embeddings:
    """Embed the query and every sentence in the reference and in every candidate.

    Raises:
        UnsupportedModel: a model that reads no text or gives no hidden states, or has no pooler where one is asked for.
        InvalidInput: a text that is longer than the model reads.
        QfundError: anything else that is wrong with the request or the model.
    """
    started = time.perf_counter()
    request = checked(request)
    names = (request.reference, *request.precisions)
    opening = opened(request, names, request.also, progress)
    if opening.task.reads != "text":
        raise UnsupportedModel(
            f"{opening.found.architecture} reads {opening.task.reads}; sentences can only be embedded by a model that "
            "reads text alone.",
            "Choose another model.",
        )
    reader = inputs.reader(opening.found)
    encoder = getattr(reader.config, "is_encoder_decoder", False)
    texts = (request.query, *request.texts)
    called = ["The query", *(f"Sentence {number}" for number in range(1, len(texts)))]
    batches = [text_batch(reader, text, which) for text, which in zip(texts, called, strict=True)]
    opening.size(names)
    pool = _Pool(opening.found.architecture, encoder, request.pooling)
    rows = outputs(opening, request.reference, request.precisions, batches, progress, pool)
    vectors = {name: torch.stack(found) for name, found in rows.items()}
    reference = vectors[request.reference]
    return Embeddings(
        schema=SCHEMA,
        request=request,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        environment=environment.describe(opening.found.id, opening.revision),
        architecture=opening.found.architecture,
        task=opening.task.name,
        what=f"hidden states after the last layer of the {'encoder' if encoder else 'model'}",
        dimensions=int(reference.shape[1]),
        reference=Embedded(_similarity(reference)),
        candidates={
            name: Embedded(_similarity(vectors[name]), _finite(_cosines(vectors[name], reference)))
            for name in request.precisions
        },
        notes=tuple(tasks.notes_on_what_is_missing(opening.found)),
        seconds=time.perf_counter() - started,
    )


class _Pool:
    """A model and one text → [features]."""

    def __init__(self, architecture: str, encoder: bool, how: str) -> None:
        self._architecture, self._encoder, self._how = architecture, encoder, how

    def __call__(self, model: Any, batch: inputs.Batch, row: Precision) -> Tensor:
        # Without the head, which would only cost time; of an encoder and a decoder, the encoder has read the text.
        output = run(model.get_encoder() if self._encoder else model.base_model, batch, row)
        if self._how == "pooler":
            pooled = getattr(output, "pooler_output", None)
            if not isinstance(pooled, Tensor):
                raise UnsupportedModel(f"{self._architecture} has no pooler.", "Choose another pooling: mean.")
            return pooled[0]
        states = getattr(output, "last_hidden_state", None)
        if not isinstance(states, Tensor):
            raise UnsupportedModel(f"{self._architecture} gives no hidden states.", "Choose another model.")
        return states[0].double().mean(0) if self._how == "mean" else states[0, 0 if self._how == "first" else -1]


def _cosines(one: Tensor, other: Tensor) -> Tensor:
    """Row by row."""
    return torch.nn.functional.cosine_similarity(one, other, dim=-1)


def _similarity(vectors: Tensor) -> tuple[tuple[float | None, ...], ...]:
    unit = torch.nn.functional.normalize(vectors, dim=-1)
    return tuple(_finite(row) for row in unit @ unit.T)


def _finite(values: Tensor) -> tuple[float | None, ...]:
    return tuple(value if value == value and abs(value) != float("inf") else None for value in values.tolist())
