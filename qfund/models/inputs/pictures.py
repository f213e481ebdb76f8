"""Pictures, with captions where a model writes them → batches."""

import hashlib
from typing import Any

import torch
from torch import Tensor

from qfund.checkpoints import catalog
from qfund.checkpoints.checkpoint import Checkpoint
from qfund.core.errors import InvalidInput
from qfund.inputs import pictures, shapes
from qfund.inputs.chunks import Chunking, Tokens
from qfund.inputs.facts import InputFacts
from qfund.inputs.texts import InputRequest
from qfund.models.inputs import notes
from qfund.models.inputs.batch import Batch, Prepared, decoder_start, shifted_left, shifted_right
from qfund.models.inputs.opening import open_tokenizer
from qfund.models.inputs.pixels import pixel_values
from qfund.models.inputs.tokenizer import (
    chunk_length,
    encode,
    longest_context,
    special_tokens,
    vocabulary_size,
)
from qfund.models.tasks import Task

_HELD_OUT = 100  # pictures that shapes-blip is asked about


def prepare_pictures(
    request: InputRequest, source: catalog.Source, checkpoint: Checkpoint, task: Task, config: Any
) -> Prepared:
    """As ``prepare``, for a model that reads pictures; one that writes captions is scored with each picture's own, or
    with the request's text for all."""
    trained = source.kind == "shipped" and source.name == "shapes-blip"
    drawn = shapes.held_out(range(_HELD_OUT)) if trained else pictures.draw()
    values, how = pixel_values(checkpoint, [picture.image for picture in drawn], config)
    held_out = " of combinations that training never saw" if trained else ""
    sentences = [f"{len(drawn)} pictures that qfund draws itself{held_out}, {how}."]
    if task.reads == "pictures":
        facts = InputFacts("pictures", _digest(values, []), 0, len(drawn), 0, tuple(sentences))
        batch = Batch({"pixel_values": values}, chunks=torch.arange(len(drawn)))
        return Prepared((batch,), facts, (), (), False, None, (0,) * len(drawn))
    captions = [picture.caption if request.text is None else request.text for picture in drawn]
    return _captioned(request, checkpoint, config, values, captions, sentences)


def _digest(values: Tensor, captions: list[str]) -> str:
    digest = hashlib.sha256(values.numpy().tobytes())
    for caption in captions:
        digest.update(caption.encode())
    return digest.hexdigest()


def _captioned(
    request: InputRequest,
    checkpoint: Checkpoint,
    config: Any,
    values: Tensor,
    captions: list[str],
    sentences: list[str],
) -> Prepared:
    """Each of the pictures [pictures, channels, height, width] with its caption."""
    tokenizer = open_tokenizer(checkpoint)
    context = chunk_length(request, longest_context(config, tokenizer))
    is_blip = checkpoint.architecture == "BlipForConditionalGeneration"
    batches: list[Batch] = []
    pieces: list[str] = []
    starts: list[int] = []
    tokens = 0
    for index, caption in enumerate(captions):
        if not caption.strip():
            raise InvalidInput("The text is empty.", "Give a caption of at least two tokens, or leave it out.")
        before, after = special_tokens(tokenizer, caption)
        if is_blip:  # ``generate`` begins captions with this token, in place of what the tokenizer puts first
            before = [config.text_config.bos_token_id]
        text = encode(tokenizer, caption)
        room = min(request.max_tokens, Chunking(context, before=Tokens(before), after=Tokens(after)).room)
        if not index:
            sentences += notes.truncation([len(text)], room)
        text = text[:room]
        row = [*before, *text.ids, *after]
        if len(row) < 2:
            raise InvalidInput("A caption is one token long.", "Give at least two, so that one predicts the next.")
        vocabulary_size(tokenizer, config, row)
        ids, arguments = torch.tensor([row]), {"pixel_values": values[index : index + 1]}
        if is_blip:
            targets = shifted_left(ids)
            arguments["input_ids"] = ids
        else:
            targets = ids
            arguments["decoder_input_ids"] = shifted_right(ids, decoder_start(checkpoint, config))
        batches.append(Batch(arguments, targets, chunks=torch.tensor([index])))
        starts.append(len(pieces))
        special = [[tokenizer.decode([token]) for token in side] for side in (before, after)]
        pieces += [*special[0], *text.pieces, *special[1]]
        tokens += len(text)
    sentences.append("Each has its caption." if request.text is None else "Each picture is scored with the given text.")
    facts = InputFacts("pictures", _digest(values, captions), tokens, len(captions), context, tuple(sentences))
    of_texts = (0,) * len(captions)
    return Prepared(tuple(batches), facts, tuple(pieces), tuple(starts), is_blip, tokenizer, of_texts)
