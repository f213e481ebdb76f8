"""The part of an input that was read so far, as if it were all there is."""

from dataclasses import replace

from qfund.inputs.facts import InputFacts
from qfund.models.inputs import Prepared


def part(prepared: Prepared, done: int) -> Prepared:
    """The first ``done`` batches."""
    if done >= len(prepared.batches):
        return prepared
    batches = prepared.batches[:done]
    chunks = sum(len(batch.chunks) for batch in batches)
    positions = prepared.chunk_starts[chunks] if chunks < len(prepared.chunk_starts) else len(prepared.pieces)
    return replace(
        prepared,
        batches=batches,
        facts=_facts(prepared, chunks, positions),
        pieces=prepared.pieces[:positions],
        chunk_starts=prepared.chunk_starts[:chunks],
        texts_of_chunks=prepared.texts_of_chunks[:chunks],
    )


def _facts(prepared: Prepared, chunks: int, positions: int) -> InputFacts:
    """Tokens that a tokenizer adds to each chunk, and those that chunks share, are not counted twice."""
    facts = prepared.facts
    share = positions / len(prepared.pieces) if prepared.pieces else chunks / facts.chunks
    texts, left = [], chunks
    for text in facts.texts:
        if left > 0:
            read = min(left, text.chunks)
            texts.append(replace(text, tokens=text.tokens * read // text.chunks, chunks=read))
        left -= text.chunks
    return replace(facts, tokens=round(facts.tokens * share), chunks=chunks, texts=tuple(texts))
