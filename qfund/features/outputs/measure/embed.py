"""The measure ``embed``: one vector for each text in every precision, and which sentences are near a query."""

import time
from datetime import UTC, datetime

import torch
from torch import Tensor

from qfund.checkpoints import sentences
from qfund.checkpoints.sentences import SentenceModel
from qfund.core.errors import UnsupportedModel
from qfund.core.progress import Progress
from qfund.drawing.phrases import plural
from qfund.features.outputs.measure import pooling
from qfund.features.outputs.measure.classify import outputs, text_batch
from qfund.features.outputs.measure.correlation import Vector, correlations
from qfund.features.outputs.request.embeddings import OWN, SCHEMA, Embedded, Embeddings, EmbeddingsRequest, checked
from qfund.models import environment, inputs, tasks
from qfund.models.opened import opened


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
    own = sentences.read(opening.found.folder) if request.pooling == OWN else None
    pool = pooling.Pool(opening.found.architecture, encoder, "mean" if request.pooling == OWN else request.pooling, own)
    sides = [text for pair in request.pairs for text in (pair.first, pair.second)]
    paired = list(dict.fromkeys(sides))
    batches, notes = _batches(request, paired, reader, own, pool)
    opening.size(names)
    rows = outputs(opening, request.reference, request.precisions, batches, progress, pool)
    compared = 1 + len(request.texts)
    vectors = {name: torch.stack(found[:compared]) for name, found in rows.items()}
    number = {text: compared + place for place, text in enumerate(paired)}
    agreed = correlations(
        [pair.score for pair in request.pairs],
        {name: _of_pairs([found[number[text]] for text in sides]) for name, found in rows.items() if sides},
        request.reference,
    )
    reference = vectors[request.reference]
    return Embeddings(
        schema=SCHEMA,
        request=request,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        environment=environment.describe(opening.found.id, opening.revision),
        architecture=opening.found.architecture,
        task=opening.task.name,
        what=f"hidden states after the last layer of the {'encoder' if encoder else 'model'}",
        pooled=pooling.described("mean" if request.pooling == OWN else request.pooling, own),
        dimensions=int(reference.shape[1]),
        reference=Embedded(_similarity(reference), (), *agreed.get(request.reference, ())[:1]),
        candidates={
            name: Embedded(
                _similarity(vectors[name]), _finite(_cosines(vectors[name], reference)), *agreed.get(name, ())
            )
            for name in request.precisions
        },
        notes=(*tasks.notes_on_what_is_missing(opening.found), *notes),
        seconds=time.perf_counter() - started,
    )


def _of_pairs(sides: list[Tensor]) -> Vector:
    """The cosine of each text at an even place with the one after it."""
    found: Vector = _cosines(torch.stack(sides[::2]), torch.stack(sides[1::2])).double().numpy()
    return found


def _batches(
    request: EmbeddingsRequest, paired: list[str], reader: inputs.Reader, own: SentenceModel | None, pool: pooling.Pool
) -> tuple[list[inputs.Batch], list[str]]:
    """One for the query, each sentence and each text of pairs, read as the checkpoint's folder says, and what there
    is to say of that."""
    texts = (request.query, *request.texts, *paired)
    called = ["The query", *(f"Sentence {number}" for number in range(1, len(request.texts) + 1))]
    called += [f"The text {text[:40]!r} of a pair" for text in paired]
    if own is None:
        return [text_batch(reader, text, which) for text, which in zip(texts, called, strict=True)], []
    batches, notes, cut = [], [], 0
    longest = min((limit for limit in (own.longest, reader.longest) if limit), default=None)
    for index, text in enumerate(texts):
        prompt = own.document if index else own.query
        whole = reader.ids(_written(own, prompt + text))
        ids = whole if longest is None else reader.ids(_written(own, prompt + text), longest)
        cut += len(ids) < len(whole)
        row = torch.tensor([ids])
        batches.append(inputs.Batch({"input_ids": row, "attention_mask": torch.ones_like(row)}))
        if prompt and not own.pools_prompt:  # counted as sentence-transformers does: without the token that ends a text
            alone = reader.ids(prompt)
            pool.prompts[id(batches[-1])] = len(alone) - reader.special_at_end(alone)
    for what, prompt in (("the query", own.query), ("each sentence", own.document)):
        notes += [f"The checkpoint's prompt {prompt!r} stands before {what}."] if prompt else []
    notes += [f"{plural(cut, 'text')} cut to {longest:,} tokens, as the folder says."] if cut else []
    return batches, notes


def _written(own: SentenceModel, text: str) -> str:
    return text.strip().lower() if own.lower else text.strip()


def _cosines(one: Tensor, other: Tensor) -> Tensor:
    """Row by row."""
    return torch.nn.functional.cosine_similarity(one, other, dim=-1)


def _similarity(vectors: Tensor) -> tuple[tuple[float | None, ...], ...]:
    unit = torch.nn.functional.normalize(vectors, dim=-1)
    return tuple(_finite(row) for row in unit @ unit.T)


def _finite(values: Tensor) -> tuple[float | None, ...]:
    return tuple(value if value == value and abs(value) != float("inf") else None for value in values.tolist())
