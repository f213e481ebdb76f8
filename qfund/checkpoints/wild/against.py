"""What a quantised file says of the model otherwise than its original: refused where the weights mean something else,
noted where only llama.cpp and its like would go on from it."""

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from qfund.checkpoints.checkpoint import LARGEST_JSON, Checkpoint
from qfund.checkpoints.wild import rope
from qfund.checkpoints.wild.quantized_file import QuantizedFile, Vocabulary
from qfund.core.errors import UnsupportedModel

#: Facts that another model has: shapes may agree all the same.
_STRUCTURE = {
    "num_hidden_layers": ("num_hidden_layers", "n_layer"),
    "num_attention_heads": ("num_attention_heads", "n_head"),
    "num_key_value_heads": ("num_key_value_heads",),
    "num_experts_per_tok": ("num_experts_per_tok",),
}
#: Facts that change what is computed of the same weights, and what they are called.
_SETTINGS = {
    "rope_theta": ("rope base", ("rope_theta",)),
    "max_position_embeddings": ("context", ("max_position_embeddings", "n_positions")),
    "rms_norm_eps": ("epsilon of its norms", ("rms_norm_eps",)),
    "layer_norm_eps": ("epsilon of its norms", ("layer_norm_eps", "layer_norm_epsilon", "layer_norm_epsilon")),
    "sliding_window": ("sliding window", ("sliding_window",)),
}
#: Share of tokens from which on another vocabulary is meant, not a few that were added.
_ANOTHER = 0.01


def notes(original: Checkpoint, file: QuantizedFile) -> list[str]:
    """Sentences about what the file says otherwise.

    Raises:
        UnsupportedModel: it says to be another model, or has another vocabulary.
    """
    config = _flat(original.config)
    name = original.folder.name
    for fact, words in _STRUCTURE.items():
        here, there = file.facts.get(fact), next((config[word] for word in words if word in config), None)
        # A number for each layer (an architecture whose layers differ) is not compared.
        if isinstance(here, int) and isinstance(there, int) and here and here != there:
            raise UnsupportedModel(
                f"{file.path.name} says {fact} {here:,}, {name} says {there:,}: another model.",
                "Name the original that the file was made from.",
            )
    found = []
    for fact, (called, words) in _SETTINGS.items():
        here, there = file.facts.get(fact), next((config[word] for word in words if config.get(word)), None)
        if (
            isinstance(here, int | float)
            and isinstance(there, int | float)
            and not math.isclose(here, there, rel_tol=1e-6)
        ):
            found.append(
                f"The file says that its {called} is {here:,.12g}, the original says {there:,.12g}: both run here with "
                "the original's."
            )
    return [*found, *rope.notes(config, file), *_vocabulary(original, file)]


def _flat(config: Mapping[str, Any]) -> dict[str, Any]:
    """With what transformers 5 keeps below, or in the text model's part."""
    text = config.get("text_config")
    merged = {**config, **(text if isinstance(text, dict) else {})}
    rope = merged.get("rope_parameters")
    if isinstance(rope, dict):
        inner = rope if "rope_theta" in rope else rope.get("full_attention")
        if isinstance(inner, dict) and "rope_theta" in inner:
            merged.setdefault("rope_theta", inner["rope_theta"])
    return merged


def _vocabulary(original: Checkpoint, file: QuantizedFile) -> Iterator[str]:
    said = file.vocabulary
    own = _tokenizer(original.folder)
    if said is None or own is None:
        return
    tokens, merges = own
    if said.tokens is not None and tokens:
        yield from _tokens(said.tokens, tokens, original, file)
    if said.merges is not None and merges is not None and said.merges != merges:
        place = next((n for n, pair in enumerate(zip(said.merges, merges, strict=False)) if pair[0] != pair[1]), None)
        where = f"from merge {place:,} on" if place is not None else f"{len(said.merges):,} instead of {len(merges):,}"
        yield f"Its tokenizer merges otherwise than the original's ({where}): texts become other tokens there."
    yield from _settings(original.folder, said, tokens)


def _tokens(
    here: tuple[str, ...], there: Mapping[int, str], original: Checkpoint, file: QuantizedFile
) -> Iterator[str]:
    differ = [number for number, token in there.items() if number >= len(here) or not _same(here[number], token)]
    if not differ:
        return
    first = differ[0]
    example = f"token {first:,} is {_shown(here, first)}, not {there[first]!r}"
    if len(differ) > max(8, _ANOTHER * len(there)):
        raise UnsupportedModel(
            f"{file.path.name} has another vocabulary than {original.folder.name}: {len(differ):,} of "
            f"{len(there):,} tokens differ; {example}.",
            "Name the original that the file was made from.",
        )
    yield f"{len(differ):,} of its {len(here):,} tokens differ from the original's: {example}."


def _shown(tokens: tuple[str, ...], number: int) -> str:
    return repr(tokens[number]) if number < len(tokens) else "not there"


def _same(here: str, there: str) -> bool:
    """Converters write added tokens with their spaces as they are or as SentencePiece's."""
    return here == there or here.replace("▁", " ") == there.replace("▁", " ") or "\ufffd" in here


def _settings(folder: Path, said: Vocabulary, tokens: Mapping[int, str]) -> Iterator[str]:
    config = _json(folder / "tokenizer_config.json") or {}
    template = _template(folder)
    if said.template is not None and template is not None and said.template.strip() != template.strip():
        yield "Its chat template is another one than the original's."
    elif said.template is None and template is not None:
        yield "It has no chat template, the original has one."
    for what, number in (("bos", said.bos), ("eos", said.eos)):
        token = config.get(f"{what}_token")
        token = token.get("content") if isinstance(token, dict) else token
        if number is not None and isinstance(token, str) and tokens and tokens.get(number, token) != token:
            yield f"Its {what.upper()} token is {tokens[number]!r}, the original's {token!r}."
    adds = config.get("add_bos_token")
    if said.adds_bos is not None and isinstance(adds, bool) and adds != said.adds_bos:
        does = "begins" if said.adds_bos else "does not begin"
        yield f"It {does} texts with BOS, the original does{' not' * (not adds)}."


def _template(folder: Path) -> str | None:
    template = (_json(folder / "tokenizer_config.json") or {}).get("chat_template")
    beside = folder / "chat_template.jinja"
    if template is None and beside.is_file() and beside.stat().st_size < LARGEST_JSON:
        template = beside.read_text("utf-8", "replace")
    return template if isinstance(template, str) else None


def _tokenizer(folder: Path) -> tuple[dict[int, str], tuple[str, ...] | None] | None:
    """Tokens by id and merges of a tokenizer.json; None where there is none that can be read."""
    found = _json(folder / "tokenizer.json")
    model = found.get("model") if found else None
    if not isinstance(found, dict) or not isinstance(model, dict):
        return None
    vocabulary = model.get("vocab")
    tokens: dict[int, str] = {}
    if isinstance(vocabulary, dict):
        tokens = {number: token for token, number in vocabulary.items() if isinstance(number, int)}
    elif isinstance(vocabulary, list):  # Unigram: pairs of a piece and its score
        tokens = {number: str(pair[0]) for number, pair in enumerate(vocabulary) if isinstance(pair, list) and pair}
    for added in found.get("added_tokens") or ():
        if isinstance(added, dict) and isinstance(added.get("id"), int) and isinstance(added.get("content"), str):
            tokens[added["id"]] = added["content"]
    merges = model.get("merges")
    if isinstance(merges, list):
        return tokens, tuple(" ".join(pair) if isinstance(pair, list) else str(pair) for pair in merges)
    return tokens, None


def _json(path: Path) -> dict[str, Any] | None:
    try:
        if path.stat().st_size > LARGEST_JSON * 4:
            return None
        found = json.loads(path.read_text("utf-8-sig"))
    except (OSError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def facts_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """What a folder's own config.json says of these facts, as ``QuantizedFile.facts``."""
    flat = _flat(config)
    every = {**_STRUCTURE, **{fact: words for fact, (_, words) in _SETTINGS.items()}}
    return {fact: flat[word] for fact, words in every.items() for word in words if flat.get(word)}


def vocabulary_of(folder: Path) -> Vocabulary | None:
    """What a folder's own tokenizer says; None where it brings none."""
    if (own := _tokenizer(folder)) is None:
        return None
    tokens, merges = own
    known = tuple(tokens.get(number, "") for number in range(max(tokens) + 1)) if tokens else None
    return Vocabulary(known, merges, _template(folder))
