"""A checkpoint's tokenizer, opened; where that fails, which file is at fault and what its reader said."""

import json
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer
from transformers import AutoTokenizer

from qfund.checkpoints.checkpoint import Checkpoint
from qfund.checkpoints.pointers import must_be_no_pointer
from qfund.core.errors import CorruptCheckpoint, UnsupportedModel
from qfund.models import configs

_AGAIN = "Download the tokenizer's files again."
_PUT = "Put the model's tokenizer files (tokenizer.json) beside its weights."
#: Files that hold a whole tokenizer; those that older ones are made of; and what may stand beside either.
_WHOLE = ("tokenizer.json", "tekken.json")
_PARTS = ("*.model", "*.spm", "*.tokenizer", "vocab*", "merges.txt", "dict.txt", "bpe.codes")
_BESIDE = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
_TIKTOKEN = re.compile(rb"[A-Za-z0-9+/]+=* [0-9]+\r?\n")
#: As many tokens stand for no limit: transformers writes 10³⁰.
UNLIMITED = 10**9


def open_tokenizer(checkpoint: Checkpoint) -> Any:
    """
    Raises:
        UnsupportedModel: the folder has none, or none that can be read here.
        CorruptCheckpoint: one of its files is damaged, or a Git LFS pointer.
    """
    folder = checkpoint.folder
    files = _files(folder)
    must_be_no_pointer(files)
    with _warnings() as warned:
        try:
            found = AutoTokenizer.from_pretrained(
                folder, trust_remote_code=False, local_files_only=True, **configs.instead(checkpoint.config)
            )
        except Exception as error:  # tokenizers raise whatever their libraries raise
            _explain(folder, files)
            said = "; ".join(dict.fromkeys([*warned, f"{type(error).__name__}: {error}"]))
            raise UnsupportedModel(f"The tokenizer in {folder.name} cannot be opened: {said}", _PUT) from error
    # transformers makes up an empty one where there is no file; only tokenizers of bare characters or bytes need none.
    names = type(found).vocab_files_names.values()
    if names and not any((folder / name).is_file() for name in (*_WHOLE, *names)):
        raise UnsupportedModel(f"{folder.name} holds no tokenizer.", _PUT)
    found.model_max_length = _longest(folder.name, found.model_max_length)
    # A text longer than the context is read in chunks here: the warning that it is too long would be wrong.
    found.deprecation_warnings["sequence-length-is-longer-than-the-specified-maximum"] = True
    return found


def _files(folder: Path) -> list[Path]:
    """Those that a tokenizer is read from: parts only where no file holds all of it."""
    named = [[path for name in names for path in sorted(folder.glob(name))] for names in (_WHOLE, _PARTS, _BESIDE)]
    return [*(named[0] or named[1]), *named[2]]


def _explain(folder: Path, files: list[Path]) -> None:
    """Say what is wrong with a tokenizer that cannot be opened, where its files show that.

    Raises:
        UnsupportedModel, CorruptCheckpoint: as ``open_tokenizer``.
    """
    for path in files:
        if path.suffix == ".json":
            _must_be_json(path)
    if all(path.name in _BESIDE for path in files):
        raise UnsupportedModel(f"{folder.name} holds no tokenizer.", _PUT)
    pieces = [path for path in files if path.suffix in (".model", ".spm")]
    if files[0].name == _WHOLE[0]:
        try:
            Tokenizer.from_file(str(files[0]))
        except Exception as error:  # the library has no errors of its own
            raise UnsupportedModel(
                f"tokenizers {version('tokenizers')} cannot read the tokenizer.json in {folder.name}: "
                f"{str(error).rstrip('.')}.",
                "It may be of a newer version: update tokenizers and transformers, or download the file again.",
            ) from error
    elif pieces:
        _must_be_readable(pieces[0])


def _must_be_readable(path: Path) -> None:
    """
    Raises:
        UnsupportedModel: what reads a file of this kind is not installed.
        CorruptCheckpoint: a SentencePiece file that is none.
    """
    of_lines = _TIKTOKEN.match(path.read_bytes()[:1024])
    kind, packages = ("tiktoken", ("tiktoken",)) if of_lines else ("SentencePiece", ("sentencepiece", "protobuf"))
    if missing := [name for name in packages if not _installed(name)]:
        raise UnsupportedModel(
            f"{path.name} in {path.parent.name} is a {kind} file, which is read with {' and '.join(missing)}: not "
            "installed here.",
            f"Run `pip install {' '.join(missing)}`.",
        )
    if kind == "SentencePiece":
        from sentencepiece import SentencePieceProcessor  # it is seldom needed

        try:
            SentencePieceProcessor(model_file=str(path))
        except (RuntimeError, OSError) as error:
            said = " ".join(str(error).split())
            raise CorruptCheckpoint(f"{path} is damaged, no SentencePiece file: {said}.", _AGAIN) from error


def _must_be_json(path: Path) -> None:
    try:
        found = json.loads(path.read_text("utf-8"))
    except (ValueError, RecursionError) as error:
        raise CorruptCheckpoint(f"{path} is damaged, no JSON: {error}.", _AGAIN) from error
    if not isinstance(found, dict):
        raise CorruptCheckpoint(f"{path} holds no JSON object.", _AGAIN)


def _installed(package: str) -> bool:
    try:
        version(package)
    except PackageNotFoundError:
        return False
    return True


def _longest(name: str, said: Any) -> int:
    """``model_max_length`` as a number; 10⁹ where there is no limit.

    Raises:
        CorruptCheckpoint: it is none.
    """
    try:
        value = float(said)
    except (TypeError, ValueError):
        value = float("nan")
    if value != value:
        raise CorruptCheckpoint(
            f"The tokenizer_config.json in {name} says model_max_length = {str(said)[:40]!r}, which is no number.",
            "Write the most tokens that the model reads there, or take the line out.",
        )
    return int(value) if 0 < value < UNLIMITED else UNLIMITED


@contextmanager
def _warnings() -> Iterator[list[str]]:
    """What transformers warns of in the block, which may be the cause of what it raises."""
    found: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: found.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("transformers")
    logger.addHandler(handler)
    try:
        yield found
    finally:
        logger.removeHandler(handler)
