"""Text and pictures → batches of tensors that a model's forward takes, with the tokens that it should predict."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate, groupby
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from transformers import AutoImageProcessor, AutoTokenizer, GenerationConfig

from qfund.checkpoints import catalog
from qfund.checkpoints.checkpoint import Checkpoint
from qfund.core.errors import InvalidInput, UnsupportedModel
from qfund.inputs import evaluation, pictures, shapes
from qfund.inputs.chunks import Chunk, Chunking, Tokens
from qfund.inputs.facts import InputFacts, TextFacts
from qfund.inputs.texts import ALL, SECOND_HALF, InputRequest, NamedText
from qfund.models.skeleton import must_have_its_vocabulary
from qfund.models.tasks import Task, read_config

#: Longest chunk unless the request asks for another.
DEFAULT_CONTEXT = 512

#: Chunks below which nothing can be said about how far tokens of one text depend on each other.
ENOUGH_CHUNKS = 8

_BATCH_TOKENS = 1024  # more at once is no faster on a CPU, and takes more memory

_BATCH_LOGITS = 32 * 1024**2  # elements of one batch's logits

_IGNORED = -100

_HELD_OUT_PICTURES = 100  # of those that shapes-blip is asked about

_MASKED_EVERY = 7  # a masked model predicts every 7th token: about 15 %, as in its training

_LIMITS = ("max_position_embeddings", "n_positions", "max_seq_len", "max_target_positions")

# Positions start after the padding index in these, so that many rows of the position table are not usable.
_OFFSET_POSITIONS = (
    "roberta",
    "xlm-roberta",
    "camembert",
    "xlm-roberta-xl",
    "roberta-prelayernorm",
    "xmod",
    "ibert",
    "longformer",
    "luke",
    "lilt",
    "layoutlmv3",
    "markuplm",
    "altclip_text_model",
    "mpnet",
    "data2vec-text",
    "esm",
    "prophetnet",
)


@dataclass(frozen=True, slots=True)
class Batch:
    """Some examples for one forward.

    Attributes:
        arguments: of the model's forward, each [examples, …].
        targets: [examples, positions], the correct token of each, −100 where there is none; None for heads without.
        scored: [examples, positions], which positions are compared; None compares all.
        chunks: [examples], the number of each one's chunk (a picture is one) over the whole input.
    """

    arguments: dict[str, Tensor]
    targets: Tensor | None = None
    scored: Tensor | None = None
    chunks: Tensor = field(default_factory=lambda: torch.zeros(1, dtype=torch.int64))


@dataclass(frozen=True, slots=True)
class Prepared:
    """``pieces`` is the text of each token in the order of the positions; empty where outputs are not tokens.
    ``texts_of_chunks`` is the number of the text that each chunk belongs to."""

    batches: tuple[Batch, ...]
    facts: InputFacts
    pieces: tuple[str, ...]
    chunk_starts: tuple[int, ...]
    predicts_next: bool
    tokenizer: Any
    texts_of_chunks: tuple[int, ...] = (0,)


def prepare(spec: InputRequest, source: catalog.Source, checkpoint: Checkpoint, task: Task) -> Prepared:
    """Batches of the input that ``spec`` asks for.

    Raises:
        InvalidInput: an empty text, too few tokens, a context longer than the model's, a stride or a choice of
            positions that does not fit, text for a model that reads none.
        UnsupportedModel: a text model whose folder has no tokenizer, or another model's.
        CorruptCheckpoint: a vocabulary that is not the one in config.json.
    """
    config = read_config(checkpoint)
    if task.reads == "text":
        return _prepare_text(spec, source, checkpoint, task, config)
    if (spec.text is not None or spec.texts) and task.reads == "pictures":
        raise InvalidInput(f"A model for pictures ({task.name}) reads no text.", "Leave the text out.")
    if spec.texts:
        raise InvalidInput(f"A {task.name} is scored with one text for every picture.", "Give one text, or none.")
    if spec.stride is not None or spec.scoring != ALL:
        raise InvalidInput(
            f"A {task.name} reads no chunks of a text.", "Leave out the stride, and score all positions."
        )
    return _prepare_pictures(spec, source, checkpoint, task, config)


def probe(checkpoint: Checkpoint, task: Task, tokens: int) -> Batch:
    """One example of ``tokens`` random tokens (fewer where the model reads no more) and of a picture, as the task reads
    them, always the same: for figures that do not depend on what is read. It needs no tokenizer.

    Raises:
        UnsupportedModel: an image processor that cannot be used, a decoder whose first token is not named.
    """
    config = read_config(checkpoint)
    arguments: dict[str, Tensor] = {}
    if task.reads != "text":
        arguments["pixel_values"] = _pixel_values(checkpoint, config, [pictures.draw()[0].image])[0]
    if task.reads == "pictures":
        return Batch(arguments)
    ids = _random_ids(config, min([tokens, *_position_limits(config)]))
    if checkpoint.architecture == "VisionEncoderDecoderModel":
        return Batch(arguments | {"decoder_input_ids": _after(_decoder_start(checkpoint, config), ids)})
    arguments["input_ids"] = ids
    if task.reads == "text" and task.name != "causal language model":
        arguments["attention_mask"] = torch.ones_like(ids)
    if task.reads == "text" and getattr(config, "is_encoder_decoder", False) and task.gives != "labels":
        arguments["decoder_input_ids"] = _after(_decoder_start(checkpoint, config), ids)
    return Batch(arguments)


@dataclass(frozen=True, slots=True)
class Reader:
    """How a checkpoint reads texts of any length: its tokenizer, and the most tokens that it reads at once."""

    tokenizer: Any
    longest: int | None
    config: Any

    def ids(self, text: str) -> list[int]:
        """As the tokenizer gives them, special tokens included.

        Raises:
            InvalidInput: no token at all.
            UnsupportedModel: a tokenizer that belongs to another model.
        """
        found: list[int] = self.tokenizer(text)["input_ids"]
        if not found:
            raise InvalidInput("The tokenizer makes no token of this text.", "Write something else.")
        _must_know(self.tokenizer, self.config, found)
        return found


def reader(checkpoint: Checkpoint) -> Reader:
    """Raises ``UnsupportedModel`` where there is no tokenizer."""
    config, tokenizer = read_config(checkpoint), _tokenizer(checkpoint)
    return Reader(tokenizer, _longest_context(config, tokenizer), config)


def decoder_start(checkpoint: Checkpoint) -> int:
    """The token that a decoder's input starts with. Raises ``UnsupportedModel`` where none is named."""
    return _decoder_start(checkpoint, read_config(checkpoint))


def pixel_values(checkpoint: Checkpoint, images: list[Image.Image]) -> tuple[Tensor, str]:
    """Pictures as [pictures, channels, height, width], and how they were made ready, in words.

    Raises:
        UnsupportedModel: an image processor that cannot be used.
    """
    return _pixel_values(checkpoint, read_config(checkpoint), images)


def _random_ids(config: Any, count: int) -> Tensor:
    """[1, count]: no padding, and no end of the text but at the end, where some classifiers look for it."""
    text = config.get_text_config()
    ends = getattr(text, "eos_token_id", None)
    ends = ends if isinstance(ends, list) else [ends]
    vocabulary = getattr(text, "vocab_size", None) or 256  # CANINE has none and reads characters
    taken = [token for token in (*ends, getattr(text, "pad_token_id", None)) if isinstance(token, int)]
    ids = torch.randint(0, vocabulary, (1, count), generator=torch.Generator().manual_seed(0))
    free = next((token for token in range(vocabulary) if token not in taken), 0)
    ids = ids.masked_fill(torch.isin(ids, torch.tensor(taken, dtype=ids.dtype)), free)
    if count > 1 and isinstance(ends[0], int) and 0 <= ends[0] < vocabulary:
        ids[0, -1] = ends[0]
    return ids


def _tokenizer(checkpoint: Checkpoint) -> Any:
    remedy = "Put the model's tokenizer files (tokenizer.json) beside its weights."
    try:
        found = AutoTokenizer.from_pretrained(checkpoint.folder, trust_remote_code=False, local_files_only=True)
    except Exception as error:  # tokenizers raise whatever their libraries raise
        raise UnsupportedModel(
            f"{checkpoint.folder.name} holds no tokenizer that can be opened.",
            remedy,
        ) from error
    # transformers makes up an empty one where there is no file; only tokenizers of bare characters or bytes need none.
    files = type(found).vocab_files_names.values()
    if files and not any((checkpoint.folder / name).is_file() for name in ("tokenizer.json", "tekken.json", *files)):
        raise UnsupportedModel(f"{checkpoint.folder.name} holds no tokenizer.", remedy)
    # A text longer than the context is read in chunks here: the warning that it is too long would be wrong.
    found.deprecation_warnings["sequence-length-is-longer-than-the-specified-maximum"] = True
    return found


def _special_tokens(tokenizer: Any, text: str) -> tuple[list[int], list[int]]:
    """What the tokenizer puts before and after a text."""
    sample = text.strip()[:200]
    bare, whole = (tokenizer(sample, add_special_tokens=added)["input_ids"] for added in (False, True))
    start = next((i for i in range(len(whole) - len(bare) + 1) if whole[i : i + len(bare)] == bare), 0)
    return whole[:start], whole[start + len(bare) :]


def _position_limits(config: Any) -> list[int]:
    text = config.get_text_config()
    limits = [getattr(text, name, None) for name in _LIMITS]
    found = [limit for limit in limits if isinstance(limit, int) and limit > 0]
    if found and text.model_type in _OFFSET_POSITIONS:
        return [limit - (text.pad_token_id or 0) - 1 for limit in found]
    return found


def _longest_context(config: Any, tokenizer: Any) -> int | None:
    found = _position_limits(config)
    if 0 < tokenizer.model_max_length < 10**9:
        found.append(tokenizer.model_max_length)
    return min(found, default=None)


def _context(spec: InputRequest, longest: int | None) -> int:
    if spec.context is None:
        return min(longest or DEFAULT_CONTEXT, DEFAULT_CONTEXT)
    if longest is not None and spec.context > longest:
        raise InvalidInput(
            f"The model reads at most {longest} tokens at once, not {spec.context}.",
            f"Give a context of at most {longest}; longer texts are read in chunks.",
        )
    return spec.context


def _must_know(tokenizer: Any, config: Any, ids: list[int]) -> int:
    """The size of the model's vocabulary, which must hold these tokens; 1 where a model has none (CANINE)."""
    size: int | None = getattr(config.get_text_config(), "vocab_size", None)
    if size is not None and max(ids, default=0) >= size:
        token = tokenizer.convert_ids_to_tokens(max(ids))
        raise UnsupportedModel(
            f"The tokenizer makes token {max(ids):,} ({str(token)[:40]!r}) of this text, beyond the model's vocabulary "
            f"of {size:,} (vocab_size in config.json).",
            "Put the tokenizer that belongs to this checkpoint beside it.",
        )
    return size or 1


def _encode(tokenizer: Any, text: str) -> Tokens:
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=tokenizer.is_fast)
    ids: list[int] = encoded["input_ids"]
    if not tokenizer.is_fast:
        return Tokens(ids, [tokenizer.decode([token]) for token in ids])
    pieces, reached = [], 0
    for token, (start, end) in zip(ids, encoded["offset_mapping"], strict=True):
        # Tokens that split one character share its span: the first shows it, the others only what they decode to. What
        # lies between two spans (a space that a word-piece tokenizer drops) belongs to the token after it.
        pieces.append(text[reached:end] if end > reached else tokenizer.decode([token]) if start < reached else "")
        reached = max(reached, end)
    return Tokens(ids, pieces)


def _texts(spec: InputRequest, source: catalog.Source) -> tuple[str, tuple[NamedText, ...], list[str]]:
    """Where the input comes from, the texts, and sentences about them.

    Raises:
        InvalidInput: there is nothing but blanks.
    """
    if spec.texts:
        found, notes, kind = spec.texts, list[str](), "texts"
    elif spec.text is not None:
        found, notes, kind = (NamedText("", spec.text),), [], "text"
    else:
        text, notes = evaluation.evaluation_text(source)
        found, kind = (NamedText("", text),), "evaluation text"
    if not any(named.text.strip() for named in found):
        what = "The texts are" if spec.texts else "The text is"
        raise InvalidInput(f"{what} empty.", "Give a text of at least two tokens, or leave it out.")
    return kind, found, notes


def _prepare_text(
    spec: InputRequest, source: catalog.Source, checkpoint: Checkpoint, task: Task, config: Any
) -> Prepared:
    _must_have_positions(spec, task)
    must_have_its_vocabulary(checkpoint)
    tokenizer = _tokenizer(checkpoint)
    kind, texts, notes = _texts(spec, source)
    encoded = [_encode(tokenizer, named.text) for named in texts]
    notes += _cut_short([len(tokens) for tokens in encoded], spec.max_tokens)
    encoded = [tokens[: spec.max_tokens] for tokens in encoded]
    longest = max(range(len(texts)), key=lambda place: len(encoded[place]))
    before, after = _special_tokens(tokenizer, texts[longest].text)
    vocabulary = _must_know(
        tokenizer, config, [*before, *after, *(token for tokens in encoded for token in tokens.ids)]
    )
    chunking = Chunking(
        context=_context(spec, _longest_context(config, tokenizer)),
        stride=spec.stride,
        scoring=spec.scoring,
        before=Tokens(before, [tokenizer.decode([token]) for token in before]),
        after=Tokens(after, [tokenizer.decode([token]) for token in after]),
        predicts_next=task.name == "causal language model",
    )
    cut = [chunking.cut(tokens) for tokens in encoded]
    if not any(cut):
        raise _too_short(chunking, max(map(len, encoded)), len(texts))
    read = [place for place, chunks in enumerate(cut) if chunks]
    if short := [named.name for named, chunks in zip(texts, cut, strict=True) if not chunks]:
        notes.append(f"{_plural(len(short), 'text')} shorter than {chunking.least:,} tokens left out: {_some(short)}.")
    chunks = [chunk for place in read for chunk in cut[place]]
    notes += _told(chunking, len(chunks), len(read), sum(_unread(chunking, encoded[place]) for place in read))
    if task.gives == "labels" and config.num_labels == 1:
        notes.append("The head gives one number and no distribution: only its differences say something.")
    if task.name == "sequence-to-sequence model":
        notes.append("The encoder reads each chunk and the decoder repeats it, token by token.")
    facts = InputFacts(
        source=kind,
        sha256=_digest(texts),
        tokens=sum(_used(chunking, encoded[place]) for place in read),
        chunks=len(chunks),
        context=chunking.context,
        notes=tuple(notes),
        texts=tuple(
            TextFacts(
                texts[place].name, _digest(texts[place : place + 1]), _used(chunking, encoded[place]), len(cut[place])
            )
            for place in read
            if spec.texts
        ),
    )
    # Decoders with a classifier read it off the last token that is no padding: without a padding token, one by one.
    alone = task.gives == "labels" and getattr(config.get_text_config(), "pad_token_id", None) is None
    batches = tuple(
        _text_batch(group, first, task, checkpoint, config, tokenizer)
        for first, group in _of_equal_length(chunks, vocabulary, 1 if alone else _BATCH_TOKENS)
    )
    if task.name == "masked language model":
        if not any(batch.scored is not None and batch.scored.any() for batch in batches):
            raise InvalidInput("The text is too short: a masked model predicts every 7th token.", "Give a longer text.")
        facts = replace(facts, notes=(*facts.notes, f"Every {_MASKED_EVERY}th token was masked and predicted."))
    sizes = [len(chunk) for chunk in chunks]
    return Prepared(
        batches=batches,
        facts=facts,
        pieces=tuple(piece for chunk in chunks for piece in chunk.tokens.pieces),
        chunk_starts=tuple(accumulate(sizes[:-1], initial=0)),
        predicts_next=chunking.predicts_next,
        tokenizer=tokenizer,
        texts_of_chunks=tuple(number for number, place in enumerate(read) for _ in cut[place]),
    )


def _must_have_positions(spec: InputRequest, task: Task) -> None:
    """
    Raises:
        InvalidInput: a choice of positions, for outputs that have none to choose among.
    """
    if spec.scoring == SECOND_HALF and task.name != "causal language model":
        raise InvalidInput(
            f"Only a causal language model has its second halves scored as llama.cpp does; this is a {task.name}.",
            "Score all positions.",
        )
    if spec.stride is not None and task.gives not in ("tokens", "token labels"):
        raise InvalidInput(
            f"A {task.name} has no single tokens scored, so chunks that overlap would be counted twice.",
            "Leave the stride out.",
        )


def _digest(texts: Sequence[NamedText]) -> str:
    """Of the text alone where there is one; of several, with their names."""
    if len(texts) == 1:
        return hashlib.sha256(texts[0].text.encode()).hexdigest()
    return hashlib.sha256(b"".join(f"{text.name}\0{text.text}\0".encode() for text in texts)).hexdigest()


def _cut_short(lengths: list[int], most: int) -> list[str]:
    longer = [length for length in lengths if length > most]
    if len(lengths) == 1:
        return [f"The first {most:,} of {length:,} tokens were used." for length in longer]
    return [f"Of {len(longer):,} of {len(lengths):,} texts, the first {most:,} tokens were used."] if longer else []


def _too_short(chunking: Chunking, tokens: int, texts: int) -> InvalidInput:
    """No text gives a chunk; the longest has so many tokens."""
    what = (
        f"The text is {_plural(tokens, 'token')} long"
        if texts == 1
        else f"No text has more than {_plural(tokens, 'token')}"
    )
    if chunking.scoring == SECOND_HALF:
        return InvalidInput(
            f"{what}: no whole chunk of {chunking.context:,}, of which the second half could be scored.",
            f"Give at least {chunking.least:,} tokens, or a smaller context.",
        )
    return InvalidInput(f"{what}.", "Give at least two, so that one predicts the next.")


def _used(chunking: Chunking, text: Tokens) -> int:
    """How many tokens of a text stand in its chunks."""
    return len(text) - _unread(chunking, text)


def _unread(chunking: Chunking, text: Tokens) -> int:
    """How many tokens at the end of a text fill no chunk, where only whole chunks are read."""
    return (len(chunking.before) + len(text)) % chunking.context if chunking.scoring == SECOND_HALF else 0


def _told(chunking: Chunking, chunks: int, texts: int, unread: int) -> list[str]:
    """How the texts were read, in sentences."""
    notes, context = [], f"{chunking.context:,} tokens"
    what = "The text was" if texts == 1 else f"{texts:,} texts were"
    if added := len(chunking.before) + len(chunking.after):
        tokens = f"{added} special token{'s' * (added > 1)}"
        notes.append(f"The tokenizer adds {tokens} to each chunk.")
    if chunking.scoring == SECOND_HALF:
        place = ", in place of what stood there" if chunking.before else ""
        notes = [f"Each chunk begins with {_plural(len(chunking.before), 'special token')}{place}."] if place else []
        notes.append(
            f"{what} read in {_plural(chunks, 'whole chunk')} of {context}, each on its own; of each, the predictions "
            f"at positions {chunking.context // 2:,} to {chunking.context - 2:,} are scored, as llama.cpp does."
        )
        if unread:
            notes.append(f"{_plural(unread, 'token')} at the end{'s' * (texts > 1)} filled no chunk.")
    elif chunking.overlaps:
        notes.append(
            f"{what} read in {_plural(chunks, 'chunk')} of at most {context}, each {chunking.stride:,} tokens after "
            "the one before; what they share is context and scored once."
        )
    elif chunks > 1:
        notes.append(f"{what} read in {chunks} chunks of at most {context}, each on its own.")
    if chunks < ENOUGH_CHUNKS:
        notes.append(
            f"{_plural(chunks, 'chunk')} {'is' if chunks == 1 else 'are'} too few for an interval that allows for "
            f"tokens of one text depending on each other: {ENOUGH_CHUNKS} are needed."
        )
    return notes


def _plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'s' * (count != 1)}"


def _some(names: list[str]) -> str:
    return f"{', '.join(names[:3])}{' …' * (len(names) > 3)}"


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


def _text_batch(
    chunks: list[Chunk], first: int, task: Task, checkpoint: Checkpoint, config: Any, tokenizer: Any
) -> Batch:
    ids = torch.tensor([chunk.tokens.ids for chunk in chunks])
    places = torch.arange(ids.shape[1])
    wanted = torch.stack([(chunk.start <= places) & (places < chunk.stop) for chunk in chunks])
    batch = _unscored_batch(ids, wanted, task, checkpoint, config, tokenizer)
    scored = batch.scored if batch.scored is not None or wanted.all() else wanted
    return replace(batch, scored=scored, chunks=torch.arange(first, first + len(chunks)))


def _unscored_batch(
    ids: Tensor, wanted: Tensor, task: Task, checkpoint: Checkpoint, config: Any, tokenizer: Any
) -> Batch:
    """The arguments and targets of a forward; ``wanted`` [examples, positions] are those that may be scored."""
    ones = torch.ones_like(ids)
    if task.name == "causal language model":
        return Batch({"input_ids": ids}, _shifted_left(ids))
    if task.name == "sequence-to-sequence model":
        decoder = _after(_decoder_start(checkpoint, config), ids)
        return Batch({"input_ids": ids, "attention_mask": ones, "decoder_input_ids": decoder}, ids)
    if task.name == "masked language model":
        if tokenizer.mask_token_id is None:
            raise UnsupportedModel("The tokenizer has no mask token.", "Put the model's own tokenizer beside it.")
        special = torch.isin(ids, torch.tensor(tokenizer.all_special_ids))
        places = torch.arange(ids.shape[1]) % _MASKED_EVERY == _MASKED_EVERY // 2
        scored = places.expand_as(ids) & ~special & wanted
        masked = ids.masked_fill(scored, tokenizer.mask_token_id)
        return Batch({"input_ids": masked, "attention_mask": ones}, ids.masked_fill(~scored, _IGNORED), scored)
    if task.gives == "hidden states" and getattr(config, "is_encoder_decoder", False) and task.name == "encoder":
        return Batch({"input_ids": ids, "attention_mask": ones, "decoder_input_ids": ids})
    return Batch({"input_ids": ids, "attention_mask": ones})


def _shifted_left(ids: Tensor) -> Tensor:
    return torch.cat([ids[:, 1:], torch.full_like(ids[:, :1], _IGNORED)], 1)


def _decoder_start(checkpoint: Checkpoint, config: Any) -> int:
    """The token that a decoder's input starts with."""
    generation = GenerationConfig()
    if (checkpoint.folder / "generation_config.json").is_file():
        generation = GenerationConfig.from_pretrained(checkpoint.folder, local_files_only=True)
    owners = (config, config.get_text_config(decoder=True), generation)
    for name in ("decoder_start_token_id", "bos_token_id", "pad_token_id"):
        for owner in owners:
            value = getattr(owner, name, None)
            if isinstance(value, int):
                return value
    raise UnsupportedModel("The config names no token for the decoder to start with.", "Set decoder_start_token_id.")


def _after(start: int, ids: Tensor) -> Tensor:
    """A decoder's input: every token one place later, so that position i predicts token i."""
    return torch.cat([torch.full_like(ids[:, :1], start), ids[:, :-1]], 1)


def _prepare_pictures(
    spec: InputRequest, source: catalog.Source, checkpoint: Checkpoint, task: Task, config: Any
) -> Prepared:
    trained = source.kind == "shipped" and source.name == "shapes-blip"
    drawn = shapes.held_out(range(_HELD_OUT_PICTURES)) if trained else pictures.draw()
    values, how = _pixel_values(checkpoint, config, [picture.image for picture in drawn])
    held = " of combinations that training never saw" if trained else ""
    notes = [f"{len(drawn)} pictures that qfund draws itself{held}, {how}."]
    digest = hashlib.sha256(values.numpy().tobytes())
    if task.reads == "pictures":
        facts = InputFacts("pictures", digest.hexdigest(), 0, len(drawn), 0, tuple(notes))
        batch = Batch({"pixel_values": values}, chunks=torch.arange(len(drawn)))
        return Prepared((batch,), facts, (), (), False, None, (0,) * len(drawn))
    tokenizer = _tokenizer(checkpoint)
    context = _context(spec, _longest_context(config, tokenizer))
    is_blip = checkpoint.architecture == "BlipForConditionalGeneration"
    captions = [spec.text] * len(drawn) if spec.text is not None else [picture.caption for picture in drawn]
    batches: list[Batch] = []
    shown: list[str] = []
    starts: list[int] = []
    tokens = 0
    for index, caption in enumerate(captions):
        if not caption.strip():
            raise InvalidInput("The text is empty.", "Give a caption of at least two tokens, or leave it out.")
        before, after = _special_tokens(tokenizer, caption)
        if is_blip:  # ``generate`` begins captions with this token, in place of what the tokenizer puts first
            before = [config.text_config.bos_token_id]
        text = _encode(tokenizer, caption)
        room = min(spec.max_tokens, Chunking(context, before=Tokens(before), after=Tokens(after)).room)
        if not index:
            notes += _cut_short([len(text)], room)
        text = text[:room]
        row = [*before, *text.ids, *after]
        if len(row) < 2:
            raise InvalidInput("A caption is one token long.", "Give at least two, so that one predicts the next.")
        _must_know(tokenizer, config, row)
        whole, picture = torch.tensor([row]), values[index : index + 1]
        if is_blip:
            arguments, targets = {"pixel_values": picture, "input_ids": whole}, _shifted_left(whole)
        else:
            decoder = _after(_decoder_start(checkpoint, config), whole)
            arguments, targets = {"pixel_values": picture, "decoder_input_ids": decoder}, whole
        batches.append(Batch(arguments, targets, chunks=torch.tensor([index])))
        starts.append(len(shown))
        special = [[tokenizer.decode([token]) for token in side] for side in (before, after)]
        shown += [*special[0], *text.pieces, *special[1]]
        tokens += len(text)
        digest.update(caption.encode())
    notes.append("Each picture is scored with the given text." if spec.text is not None else "Each has its caption.")
    facts = InputFacts("pictures", digest.hexdigest(), tokens, len(drawn), context, tuple(notes))
    of_texts = (0,) * len(drawn)
    return Prepared(tuple(batches), facts, tuple(shown), tuple(starts), is_blip, tokenizer, of_texts)


def _pixel_values(checkpoint: Checkpoint, config: Any, images: list[Image.Image]) -> tuple[Tensor, str]:
    """Pictures as [pictures, channels, height, width], and how they were made ready, in words."""
    if (checkpoint.folder / "preprocessor_config.json").is_file():
        try:
            processor = AutoImageProcessor.from_pretrained(checkpoint.folder, local_files_only=True, backend="pil")
            values: Tensor = processor(images=images, return_tensors="pt")["pixel_values"]
        except Exception as error:  # image processors raise whatever their libraries raise
            raise UnsupportedModel(
                f"The image processor in {checkpoint.folder.name} cannot be used: {error}",
                "Remove preprocessor_config.json to have pictures scaled plainly, or choose another model.",
            ) from error
        return values, "made ready by the model's own image processor"
    owners = (config, *(getattr(config, name, None) for name in ("vision_config", "encoder")))
    sizes = (getattr(owner, "image_size", None) for owner in owners)
    size = next((size for size in sizes if isinstance(size, int | list | tuple)), 224)
    height, width = (size, size) if isinstance(size, int) else size
    channels = next((c for owner in owners if isinstance(c := getattr(owner, "num_channels", None), int)), 3)
    mode = "L" if channels == 1 else "RGB"
    stack = np.stack([np.asarray(image.convert(mode).resize((width, height)), dtype=np.float32) for image in images])
    stack = stack[..., None] if channels == 1 else stack
    scaled = torch.from_numpy(stack / 127.5 - 1).permute(0, 3, 1, 2).contiguous()
    return scaled, f"scaled to {width}×{height} pixels and −1 … 1 (the folder has no image processor)"
