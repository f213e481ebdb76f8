"""Text and pictures → batches of tensors that a model's forward takes, with the tokens that it should predict."""

import hashlib
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from transformers import AutoImageProcessor, AutoTokenizer, GenerationConfig

from qfund import catalog, pictures
from qfund.checkpoint import Checkpoint
from qfund.errors import InvalidInput, UnsupportedModel
from qfund.report import InputFacts
from qfund.spec import Spec
from qfund.tasks import Task, read_config

#: Longest chunk unless the ``Spec`` asks for another.
DEFAULT_CONTEXT = 512
_BATCH_TOKENS = 1024  # more at once is no faster on a CPU, and takes more memory
_BATCH_LOGITS = 32 * 1024**2  # elements of one batch's logits
_IGNORED = -100
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
    """

    arguments: dict[str, Tensor]
    targets: Tensor | None = None
    scored: Tensor | None = None


@dataclass(frozen=True, slots=True)
class Prepared:
    """``pieces`` is the text of each token in the order of the positions; empty where outputs are not tokens."""

    batches: tuple[Batch, ...]
    facts: InputFacts
    pieces: tuple[str, ...]
    chunk_starts: tuple[int, ...]
    predicts_next: bool
    tokenizer: Any


def prepare(spec: Spec, source: catalog.Source, checkpoint: Checkpoint, task: Task) -> Prepared:
    """Batches of the input that ``spec`` asks for.

    Raises:
        InvalidInput: an empty text, one token, a context longer than the model's, text for a model that reads none.
        UnsupportedModel: a text model whose folder has no tokenizer.
    """
    config = read_config(checkpoint)
    if task.reads == "text":
        return _prepare_text(spec, source, checkpoint, task, config)
    if spec.text is not None and task.reads == "pictures":
        raise InvalidInput(f"A model for pictures ({task.name}) reads no text.", "Leave the text out.")
    return _prepare_pictures(spec, checkpoint, task, config)


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
        _must_know(self.config, found)
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


def _context(spec: Spec, longest: int | None) -> int:
    if spec.context is None:
        return min(longest or DEFAULT_CONTEXT, DEFAULT_CONTEXT)
    if longest is not None and spec.context > longest:
        raise InvalidInput(
            f"The model reads at most {longest} tokens at once, not {spec.context}.",
            f"Give a context of at most {longest}; longer texts are read in chunks.",
        )
    return spec.context


def _room(context: int, before: list[int], after: list[int]) -> int:
    room = context - len(before) - len(after)
    if room < 1:
        raise InvalidInput(f"A context of {context} leaves no room for text.", "Give a larger context.")
    return room


def _must_know(config: Any, ids: list[int]) -> int:
    """The size of the model's vocabulary, which must hold these tokens; 1 where a model has none (CANINE)."""
    size: int | None = getattr(config.get_text_config(), "vocab_size", None)
    if size is not None and max(ids) >= size:
        raise UnsupportedModel(
            f"The tokenizer gives tokens beyond the model's vocabulary of {size:,}.",
            "Put the tokenizer that belongs to this checkpoint beside it.",
        )
    return size or 1


def _encode(tokenizer: Any, text: str) -> tuple[list[int], list[str]]:
    """Token ids, and the piece of text that each stands for."""
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=tokenizer.is_fast)
    ids: list[int] = encoded["input_ids"]
    if not tokenizer.is_fast:
        return ids, [tokenizer.decode([token]) for token in ids]
    pieces, reached = [], 0
    for token, (start, end) in zip(ids, encoded["offset_mapping"], strict=True):
        # Tokens that split one character share its span: the first shows it, the others only what they decode to. What
        # lies between two spans (a space that a word-piece tokenizer drops) belongs to the token after it.
        pieces.append(text[reached:end] if end > reached else tokenizer.decode([token]) if start < reached else "")
        reached = max(reached, end)
    return ids, pieces


def _prepare_text(spec: Spec, source: catalog.Source, checkpoint: Checkpoint, task: Task, config: Any) -> Prepared:
    tokenizer = _tokenizer(checkpoint)
    text, notes = (spec.text, []) if spec.text is not None else catalog.evaluation_text(source)
    if not text.strip():
        raise InvalidInput("The text is empty.", "Give a text of at least two tokens, or leave it out.")
    ids, pieces = _encode(tokenizer, text)
    if len(ids) > spec.max_tokens:
        notes.append(f"The first {spec.max_tokens:,} of {len(ids):,} tokens were used.")
        ids, pieces = ids[: spec.max_tokens], pieces[: spec.max_tokens]
    if len(ids) < 2:
        raise InvalidInput(f"The text is {len(ids)} token long.", "Give at least two, so that one predicts the next.")
    before, after = _special_tokens(tokenizer, text)
    context = _context(spec, _longest_context(config, tokenizer))
    room = _room(context, before, after)
    if added := len(before) + len(after):
        notes.append(f"The tokenizer adds {added} special token{'s' * (added > 1)} to each chunk.")
    if task.gives == "labels" and config.num_labels == 1:
        notes.append("The head gives one number and no distribution: only its differences say something.")
    if task.name == "sequence-to-sequence model":
        notes.append("The encoder reads each chunk and the decoder repeats it, token by token.")
    chunks: list[list[int]] = []
    shown: list[str] = []
    starts: list[int] = []
    for start in range(0, len(ids), room):
        starts.append(len(shown))
        chunks.append([*before, *ids[start : start + room], *after])
        special = [[tokenizer.decode([token]) for token in side] for side in (before, after)]
        shown += [*special[0], *pieces[start : start + room], *special[1]]
    if len(chunks) > 1:
        notes.append(f"The text was read in {len(chunks)} chunks of at most {context} tokens, each on its own.")
    facts = InputFacts(
        source="text" if spec.text is not None else "evaluation text",
        sha256=hashlib.sha256(text.encode()).hexdigest(),
        tokens=len(ids),
        chunks=len(chunks),
        context=context,
        notes=tuple(notes),
    )
    vocabulary = max(_must_know(config, chunk) for chunk in chunks)
    # Decoders with a classifier read it off the last token that is no padding: without a padding token, one by one.
    alone = task.gives == "labels" and getattr(config.get_text_config(), "pad_token_id", None) is None
    rows = _rows_of_equal_length(chunks, vocabulary, 1 if alone else _BATCH_TOKENS)
    batches = tuple(_text_batch(row, task, checkpoint, config, tokenizer) for row in rows)
    if task.name == "masked language model":
        if not any(batch.scored is not None and batch.scored.any() for batch in batches):
            raise InvalidInput("The text is too short: a masked model predicts every 7th token.", "Give a longer text.")
        facts = replace(facts, notes=(*facts.notes, f"Every {_MASKED_EVERY}th token was masked and predicted."))
    return Prepared(batches, facts, tuple(shown), tuple(starts), task.name == "causal language model", tokenizer)


def _rows_of_equal_length(chunks: list[list[int]], vocabulary: int, tokens: int) -> list[Tensor]:
    """Chunks as batches [examples, tokens] of about ``tokens``: no batch mixes lengths, so nothing is padded."""
    length = len(chunks[0])
    full = [chunk for chunk in chunks if len(chunk) == length]
    size = max(1, min(tokens // length, _BATCH_LOGITS // (length * vocabulary)))
    rows = [torch.tensor(full[i : i + size]) for i in range(0, len(full), size)]
    if len(chunks[-1]) != length:
        rows.append(torch.tensor([chunks[-1]]))
    return rows


def _text_batch(ids: Tensor, task: Task, checkpoint: Checkpoint, config: Any, tokenizer: Any) -> Batch:
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
        scored = (torch.arange(ids.shape[1]) % _MASKED_EVERY == _MASKED_EVERY // 2).expand_as(ids) & ~special
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


def _prepare_pictures(spec: Spec, checkpoint: Checkpoint, task: Task, config: Any) -> Prepared:
    drawn = pictures.draw()
    values, how = _pixel_values(checkpoint, config, [picture.image for picture in drawn])
    notes = [f"{len(drawn)} pictures that qfund draws itself, {how}."]
    digest = hashlib.sha256(values.numpy().tobytes())
    if task.reads == "pictures":
        facts = InputFacts("pictures", digest.hexdigest(), 0, len(drawn), 0, tuple(notes))
        return Prepared((Batch({"pixel_values": values}),), facts, (), (), False, None)
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
        ids, pieces = _encode(tokenizer, caption)
        room = min(spec.max_tokens, _room(context, before, after))
        if len(ids) > room and not index:
            notes.append(f"The first {room:,} of {len(ids):,} tokens were used.")
        ids, pieces = ids[:room], pieces[:room]
        row = [*before, *ids, *after]
        if len(row) < 2:
            raise InvalidInput("A caption is one token long.", "Give at least two, so that one predicts the next.")
        _must_know(config, row)
        whole, picture = torch.tensor([row]), values[index : index + 1]
        if is_blip:
            batches.append(Batch({"pixel_values": picture, "input_ids": whole}, _shifted_left(whole)))
        else:
            decoder = _after(_decoder_start(checkpoint, config), whole)
            batches.append(Batch({"pixel_values": picture, "decoder_input_ids": decoder}, whole))
        starts.append(len(shown))
        special = [[tokenizer.decode([token]) for token in side] for side in (before, after)]
        shown += [*special[0], *pieces, *special[1]]
        tokens += len(ids)
        digest.update(caption.encode())
    notes.append("Each picture is scored with the given text." if spec.text is not None else "Each has its caption.")
    facts = InputFacts("pictures", digest.hexdigest(), tokens, len(drawn), context, tuple(notes))
    return Prepared(tuple(batches), facts, tuple(shown), tuple(starts), is_blip, tokenizer)


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
