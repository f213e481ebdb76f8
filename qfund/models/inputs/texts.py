"""Texts → chunks → batches."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import accumulate, groupby
from typing import Any

import torch
from torch import Tensor

from qfund.checkpoints import catalog
from qfund.checkpoints.checkpoint import Checkpoint
from qfund.core.errors import InvalidInput, UnsupportedModel
from qfund.inputs import evaluation
from qfund.inputs.chunks import Chunk, Chunking, Tokens
from qfund.inputs.facts import InputFacts, TextFacts
from qfund.inputs.texts import SECOND_HALF, InputRequest, NamedText
from qfund.models.inputs import notes
from qfund.models.inputs.batch import IGNORED, Batch, Prepared, decoder_start, shifted_left, shifted_right
from qfund.models.inputs.opening import open_tokenizer
from qfund.models.inputs.tokenizer import (
    chunk_length,
    encode,
    longest_context,
    special_tokens,
    vocabulary_size,
)
from qfund.models.tasks import Task
from qfund.models.vocabulary import must_have_its_vocabulary

_BATCH_TOKENS = 1024  # ``features.compare.measure.batches`` tries others where models stay in memory
_BATCH_LOGITS = 32 * 1024**2  # elements of one batch's logits

_MASKED_EVERY = 7  # a masked model predicts every 7th token: about 15 %, as in its training


def prepare_texts(
    request: InputRequest, source: catalog.Source, checkpoint: Checkpoint, task: Task, config: Any
) -> Prepared:
    """As ``prepare``, for a model that reads text alone."""
    _must_have_positions(request, task)
    must_have_its_vocabulary(checkpoint)
    tokenizer = open_tokenizer(checkpoint)
    kind, texts, sentences = _texts(request, source)
    encoded = [encode(tokenizer, named.text) for named in texts]
    sentences += notes.truncation([len(tokens) for tokens in encoded], request.max_tokens)
    encoded = [tokens[: request.max_tokens] for tokens in encoded]
    longest = max(range(len(texts)), key=lambda place: len(encoded[place]))
    before, after = special_tokens(tokenizer, texts[longest].text)
    ids = [*before, *after, *(token for tokens in encoded for token in tokens.ids)]
    vocabulary = vocabulary_size(tokenizer, config, ids)
    chunking = Chunking(
        context=chunk_length(request, longest_context(config, tokenizer)),
        stride=request.stride,
        scoring=request.scoring,
        before=Tokens(before, [tokenizer.decode([token]) for token in before]),
        after=Tokens(after, [tokenizer.decode([token]) for token in after]),
        predicts_next=task.name == "causal language model",
    )
    chunks_of = [chunking.cut(tokens) for tokens in encoded]
    if not any(chunks_of):
        raise notes.too_short(chunking, len(encoded[longest]), len(texts))
    read = [place for place, chunks in enumerate(chunks_of) if chunks]
    chunks = [chunk for place in read for chunk in chunks_of[place]]
    unread = [chunking.unread(tokens) for tokens in encoded]
    used = [len(tokens) - end for tokens, end in zip(encoded, unread, strict=True)]
    sentences += notes.left_out([texts[place].name for place in range(len(texts)) if place not in read], chunking)
    sentences += notes.reading(chunking, len(chunks), len(read), sum(unread[place] for place in read))
    sentences += _notes_of_task(task, config)
    batches = tuple(batches_of(chunks, vocabulary, task, checkpoint, config, tokenizer))
    if task.name == "masked language model":
        if not any(batch.scored is not None and batch.scored.any() for batch in batches):
            raise InvalidInput("The text is too short: a masked model predicts every 7th token.", "Give a longer text.")
        sentences.append(f"Every {_MASKED_EVERY}th token was masked and predicted.")
    facts = InputFacts(
        source=kind,
        sha256=digest(texts),
        tokens=sum(used[place] for place in read),
        chunks=len(chunks),
        context=chunking.context,
        notes=tuple(sentences),
        texts=tuple(
            TextFacts(texts[place].name, digest([texts[place]]), used[place], len(chunks_of[place]))
            for place in read
            if request.texts
        ),
    )
    return Prepared(
        batches=batches,
        facts=facts,
        pieces=tuple(piece for chunk in chunks for piece in chunk.tokens.pieces),
        chunk_starts=tuple(accumulate((len(chunk) for chunk in chunks[:-1]), initial=0)),
        predicts_next=chunking.predicts_next,
        tokenizer=tokenizer,
        texts_of_chunks=tuple(number for number, place in enumerate(read) for _ in chunks_of[place]),
    )


def _must_have_positions(request: InputRequest, task: Task) -> None:
    """
    Raises:
        InvalidInput: a choice of positions, for outputs that have none to choose among.
    """
    if request.scoring == SECOND_HALF and task.name != "causal language model":
        raise InvalidInput(
            f"Only a causal language model has its second halves scored as llama.cpp does; this is a {task.name}.",
            "Score all positions.",
        )
    if request.stride is not None and task.gives not in ("tokens", "token labels"):
        raise InvalidInput(
            f"A {task.name} has no single tokens scored, so chunks that overlap would be counted twice.",
            "Leave the stride out.",
        )


def _texts(request: InputRequest, source: catalog.Source) -> tuple[str, Sequence[NamedText], list[str]]:
    """Where the input comes from, the texts, and sentences about them.

    Raises:
        InvalidInput: there is nothing but blanks.
    """
    texts, sentences, kind = request.texts, list[str](), "texts"
    if not texts and request.text is not None:
        texts, kind = (NamedText("", request.text),), "text"
    elif not texts:
        text, sentences = evaluation.evaluation_text(source)
        texts, kind = (NamedText("", text),), "evaluation text"
    if not any(named.text.strip() for named in texts):
        what = "The texts are" if request.texts else "The text is"
        raise InvalidInput(f"{what} empty.", "Give a text of at least two tokens, or leave it out.")
    return kind, texts, sentences


def digest(texts: Sequence[NamedText]) -> str:
    """Of the text alone where there is one; of several, with their names."""
    if len(texts) == 1:
        return hashlib.sha256(texts[0].text.encode()).hexdigest()
    return hashlib.sha256(b"".join(f"{text.name}\0{text.text}\0".encode() for text in texts)).hexdigest()


def _notes_of_task(task: Task, config: Any) -> Iterator[str]:
    if task.gives == "labels" and config.num_labels == 1:
        yield "The head gives one number and no distribution: only its differences say something."
    if task.name == "sequence-to-sequence model":
        yield "The encoder reads each chunk and the decoder repeats it, token by token."


def batches_of(
    chunks: list[Chunk], vocabulary: int, task: Task, checkpoint: Checkpoint, config: Any, tokenizer: Any
) -> Iterator[Batch]:
    # Decoders with a classifier read it off the last token that is no padding: without a padding token, one by one.
    alone = task.gives == "labels" and getattr(config.get_text_config(), "pad_token_id", None) is None
    for first, group in _of_equal_length(chunks, vocabulary, 1 if alone else _BATCH_TOKENS):
        ids = torch.tensor([chunk.tokens.ids for chunk in group])
        places = torch.arange(ids.shape[1])
        compared = torch.stack([(chunk.start <= places) & (places < chunk.stop) for chunk in group])
        batch = _batch(ids, compared, task, checkpoint, config, tokenizer)
        scored = batch.scored if batch.scored is not None or compared.all() else compared
        yield replace(batch, scored=scored, chunks=torch.arange(first, first + len(group)))


def _of_equal_length(chunks: list[Chunk], vocabulary: int, tokens: int) -> Iterator[tuple[int, list[Chunk]]]:
    """Neighbouring chunks of one length, of about ``tokens`` together, and the number of the first: no batch mixes
    lengths, so nothing is padded, and positions keep the order of the input."""
    place = 0
    for length, run in groupby(chunks, key=len):
        held = list(run)
        size = max(1, min(tokens // length, _BATCH_LOGITS // (length * vocabulary)))
        for start in range(0, len(held), size):
            yield place + start, held[start : start + size]
        place += len(held)


def _batch(ids: Tensor, compared: Tensor, task: Task, checkpoint: Checkpoint, config: Any, tokenizer: Any) -> Batch:
    """The arguments and targets of a forward; ``compared`` [examples, positions] are those that may be scored."""
    ones = torch.ones_like(ids)
    if task.name == "causal language model":
        return Batch({"input_ids": ids}, shifted_left(ids))
    if task.name == "sequence-to-sequence model":
        decoder = shifted_right(ids, decoder_start(checkpoint, config))
        return Batch({"input_ids": ids, "attention_mask": ones, "decoder_input_ids": decoder}, ids)
    if task.name == "masked language model":
        if tokenizer.mask_token_id is None:
            raise UnsupportedModel("The tokenizer has no mask token.", "Put the model's own tokenizer beside it.")
        special = torch.isin(ids, torch.tensor(tokenizer.all_special_ids))
        places = torch.arange(ids.shape[1]) % _MASKED_EVERY == _MASKED_EVERY // 2
        scored = places.expand_as(ids) & ~special & compared
        masked = ids.masked_fill(scored, tokenizer.mask_token_id)
        return Batch({"input_ids": masked, "attention_mask": ones}, ids.masked_fill(~scored, IGNORED), scored)
    if task.gives == "hidden states" and getattr(config, "is_encoder_decoder", False) and task.name == "encoder":
        return Batch({"input_ids": ids, "attention_mask": ones, "decoder_input_ids": ids})
    return Batch({"input_ids": ids, "attention_mask": ones})
