"""How a folder of sentence-transformers makes one vector of a text: pooling, what follows it, prompts. No torch.

``modules.json`` lists the steps. The oldest folders keep the transformer in a folder of its own (``0_BERT``); how a
pooling is named has changed once: a switch for each mode before, one name since.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qfund.core.errors import CorruptCheckpoint, UnsupportedModel

MODULES = "modules.json"
_LARGEST = 1024**2  # bytes of a settings file

#: Switch of an older pooling's settings → its mode, in the order in which several are joined.
_SWITCHES = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
#: Mode → what it is called in a sentence.
MODES = {
    "cls": "the first token's",
    "max": "the largest value of each feature over all tokens",
    "mean": "the mean over all tokens",
    "mean_sqrt_len_tokens": "the sum over all tokens over the root of their number",
    "weightedmean": "the mean over all tokens, the n-th n times",
    "lasttoken": "the last token's",
}
DENSE, NORMALIZE, LAYER_NORM = "Dense", "Normalize", "LayerNorm"


@dataclass(frozen=True, slots=True)
class Step:
    """What follows the pooling: ``DENSE``, ``NORMALIZE`` or ``LAYER_NORM``."""

    kind: str
    folder: Path
    activation: str = ""


@dataclass(frozen=True, slots=True)
class SentenceModel:
    """
    Attributes:
        modes: names of ``MODES``; vectors of several are joined.
        pools_prompt: whether tokens of a prompt count in the pooling.
        longest: tokens of a text, special ones included; longer ones are cut. None for what the model reads.
        lower: whether texts are read in lower case.
        query, document: what is put before a query, and before a text that it is compared with.
    """

    modes: tuple[str, ...]
    pools_prompt: bool = True
    steps: tuple[Step, ...] = ()
    longest: int | None = None
    lower: bool = False
    query: str = ""
    document: str = ""


def transformer(folder: Path) -> Path:
    """The folder of the weights: ``folder`` itself, or the one in it that its ``modules.json`` names first."""
    if (folder / "config.json").is_file() or not (folder / MODULES).is_file():
        return folder
    try:
        path = str(_modules(folder)[0].get("path", ""))
    except CorruptCheckpoint:
        return folder
    inside = (folder / path).resolve()
    return inside if inside.is_relative_to(folder.resolve()) and (inside / "config.json").is_file() else folder


def settings_files(folder: Path) -> list[Path]:
    """Files in other folders than the weights' that decide what the vectors are."""
    root = _root(folder)
    if root is None:
        return []
    try:
        parts = [root / str(module.get("path", "")) for module in _modules(root)[1:]]
    except CorruptCheckpoint:
        return []
    own = [root / name for name in (MODULES, "config_sentence_transformers.json") if root != folder]
    inner = [file for part in parts if part.is_dir() and part != folder for file in sorted(part.iterdir())]
    return [file for file in (*own, *inner) if file.is_file() and file.parent != folder]


def read(folder: Path) -> SentenceModel | None:
    """What the folder of a transformer, or the one around it, says; None where it is none of sentence-transformers.

    Raises:
        CorruptCheckpoint: a file is missing or malformed.
        UnsupportedModel: a step that is none of those known here.
    """
    root = _root(folder)
    if root is None:
        return None
    pooling: dict[str, Any] = {}
    steps: list[Step] = []
    for module in _modules(root)[1:]:
        kind = str(module.get("type", "")).rpartition(".")[2]
        part = (root / str(module.get("path", ""))).resolve()
        if not part.is_relative_to(root.resolve()):
            raise CorruptCheckpoint(f"{root / MODULES} names {part}, which lies outside.", _AGAIN)
        if kind == "Pooling" and not pooling and not steps:
            pooling = _object(part / "config.json")
        elif kind in (DENSE, NORMALIZE, LAYER_NORM) and pooling:
            settings = _object(part / "config.json") if kind == DENSE else {}
            steps.append(Step(kind, part, str(settings.get("activation_function", "torch.nn.modules.activation.Tanh"))))
        else:
            raise UnsupportedModel(
                f"{root.name} makes its vectors with {kind[:40]!r} ({MODULES}), which qfund does not follow.",
                "Choose a pooling of your own: --pooling mean.",
            )
    if not pooling:
        raise UnsupportedModel(f"{root / MODULES} names no pooling.", "Choose one of your own: --pooling mean.")
    longest, lower = _reading(folder)
    query, document = _prompts(root)
    pools_prompt = pooling.get("include_prompt", True) is not False
    return SentenceModel(_modes(pooling, root), pools_prompt, tuple(steps), longest, lower, query, document)


_AGAIN = "Download or save the folder again, or choose a pooling of your own: --pooling mean."


def _root(folder: Path) -> Path | None:
    """Where ``modules.json`` lies: in the folder, or in the one around it where that says so."""
    if (folder / MODULES).is_file():
        return folder
    try:
        return folder.parent if (folder.parent / MODULES).is_file() and transformer(folder.parent) == folder else None
    except OSError:
        return None


def _json(path: Path) -> Any:
    try:
        if path.stat().st_size > _LARGEST:
            raise CorruptCheckpoint(f"{path} has {path.stat().st_size:,} bytes.", _AGAIN)
        return json.loads(path.read_text("utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise CorruptCheckpoint(f"{path} cannot be read as JSON: {error}.", _AGAIN) from error


def _object(path: Path) -> dict[str, Any]:
    found = _json(path)
    if not isinstance(found, dict):
        raise CorruptCheckpoint(f"{path} holds no JSON object.", _AGAIN)
    return found


def _modules(root: Path) -> list[dict[str, Any]]:
    found = _json(root / MODULES)
    if not isinstance(found, list) or not found or not all(isinstance(module, dict) for module in found):
        raise CorruptCheckpoint(f"{root / MODULES} lists no modules.", _AGAIN)
    return found


def _modes(settings: Mapping[str, Any], root: Path) -> tuple[str, ...]:
    named = settings.get("pooling_mode")
    if isinstance(named, str):
        named = named.split("+")
    modes = tuple(named) if isinstance(named, list) else tuple(m for s, m in _SWITCHES.items() if settings.get(s))
    if not named and not any(switch in settings for switch in _SWITCHES):
        modes = ("mean",)  # what sentence-transformers takes where nothing is said
    if not modes or not all(mode in MODES for mode in modes):
        raise UnsupportedModel(
            f"{root.name} pools by {', '.join(str(mode)[:40] for mode in modes) or 'nothing'}: qfund does not know it.",
            "Choose a pooling of your own: --pooling mean.",
        )
    return modes


def _reading(folder: Path) -> tuple[int | None, bool]:
    """Of ``sentence_bert_config.json``, which older versions named by other models."""
    path = next(iter(sorted(folder.glob("sentence_*_config.json"))), None)
    settings = _object(path) if path else {}
    longest = settings.get("max_seq_length")
    return longest if isinstance(longest, int) and longest > 0 else None, settings.get("do_lower_case") is True


def _prompts(root: Path) -> tuple[str, str]:
    """What sentence-transformers' ``encode_query`` and ``encode_document`` put before a text."""
    path = root / "config_sentence_transformers.json"
    settings = _object(path) if path.is_file() else {}
    prompts = settings.get("prompts")
    prompts = prompts if isinstance(prompts, dict) else {}
    usual = settings.get("default_prompt_name")

    def first(*names: Any) -> str:
        return next((str(prompts[name] or "") for name in names if isinstance(name, str) and name in prompts), "")

    return first("query", usual), first("document", "passage", "corpus", usual)
