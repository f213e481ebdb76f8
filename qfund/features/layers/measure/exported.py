"""A recipe written as a checkpoint that others load, and measured again from what was written."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn
from transformers.pytorch_utils import Conv1D

from qfund.checkpoints import checkpoint
from qfund.core.errors import InvalidSpec, QfundError, UnavailablePrecision, UnsupportedModel
from qfund.core.metrics.estimates import estimates
from qfund.core.progress import Progress
from qfund.features.layers.measure.opening import Opening, opening
from qfund.features.layers.measure.packed import packed, stacked
from qfund.features.layers.measure.searched import split
from qfund.features.layers.measure.swapped import REFERENCE, Heard, mixed
from qfund.features.layers.request.exports import METHOD, Exported, must_hold
from qfund.features.layers.request.recipe import Recipe
from qfund.models import loading, meta
from qfund.models.forward import explained, run
from qfund.models.tasks import model_class
from qfund.precisions.backends.table import BACKENDS, Implementation
from qfund.precisions.precision import STORED
from qfund.precisions.table import PRECISIONS
from qfund.stream.mixed import Mix

WEIGHTS = "model.safetensors"
AS_TEXT = "Have what other tools take instead (--export-format text), or another format."


def exported(
    found: Recipe, folder: Path, progress: Progress = lambda phase, share: None, method: str = METHOD
) -> Exported:
    """Write the recipe to a folder by one of ``METHODS``, read that as anybody would, and run both on the recipe's test
    text.

    Raises:
        InvalidSpec: the format does not hold one of its rows, or the folder cannot be written.
        UnsupportedModel: a module is no layer that the format knows, or its rows are no multiple of a group.
        UnavailablePrecision: the method's library is not installed.
        QfundError: the model cannot be loaded.
    """
    request = found.request
    modules = {name: row for name, row in found.recipe.modules.items() if row != request.reference}
    must_hold(modules.values(), request.reference, method)
    if not modules:
        raise InvalidSpec(
            f"The recipe leaves every module in {PRECISIONS[request.reference].label}: there is nothing to write.",
            "Give a smaller budget.",
        )
    whole = opening(replace(request, max_tokens=request.max_tokens + request.test_tokens), progress)
    _, test = split(whole, request.max_tokens)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (_pack if method == METHOD else _save)(folder, whole, modules, method, progress)
        _beside(folder, whole.opened.found.folder)
    except OSError as error:
        raise InvalidSpec(f"{folder} cannot be written: {error.strerror or error}.", "Name another folder.") from error
    return _read_again(folder, test, modules, progress)


def _pack(folder: Path, whole: Opening, modules: Mapping[str, str], method: str, progress: Progress) -> None:
    """Our own codes and scales, as compressed-tensors packs them."""
    with whole.opened.loaded([whole.reference.name], lambda phase: progress(phase, 0.1)) as (reference,):
        model = reference.model
        _must_be_layers(model, modules, method)
        state, settings = packed(model, modules)
        config = model.config.to_dict() | {"quantization_config": settings, "dtype": str(model.dtype).partition(".")[2]}
        (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", "utf-8")
        save_file(state, folder / WEIGHTS, {"format": "pt"})
        (folder / WEIGHTS).chmod((folder / "config.json").stat().st_mode)  # safetensors keeps it from everybody else


def _save(folder: Path, whole: Opening, modules: Mapping[str, str], method: str, progress: Progress) -> None:
    """What transformers makes of the library's settings, and saves."""
    progress(f"writing by {method}", 0.1)
    held = {row.precision: row for row in BACKENDS[method].rows}
    rows = {name: held[PRECISIONS[row].variant_of or row] for name, row in modules.items()}
    try:
        plain = meta.build(whole.opened.found, getattr(torch, whole.reference.dtype))
        _must_be_layers(plain, modules, method)
        _must_fit(plain, rows, method)
        model = model_class(whole.opened.found).from_pretrained(
            whole.opened.found.folder,
            quantization_config=_settings(method, plain, rows, whole.reference.dtype),
            dtype=getattr(torch, whole.reference.dtype),
        )
        converted = next(iter(rows.values())).load().converted
        layers = [name for name, module in plain.named_modules() if isinstance(module, nn.Linear | Conv1D)]
        if other := [name for name in layers if converted(model.get_submodule(name)) != (name in rows)]:
            did = "leaves" if other[0] in rows else "converts"
            raise UnsupportedModel(
                f"{method} {did} {other[0]}, which was not asked for, and {len(other) - 1:,} more.", AS_TEXT
            )
        model.save_pretrained(folder)
    except ImportError as error:
        raise UnavailablePrecision(
            f"{method} is not installed, which makes the codes.", f"pip install {method}"
        ) from error
    except (QfundError, OSError):
        raise
    except Exception as error:  # whatever a library's tensors cannot do that an architecture's code asks of them
        why = " ".join(str(error).split())[:200]
        raise UnsupportedModel(
            f"{method} cannot make this of {whole.opened.found.architecture}: {type(error).__name__}: {why}", AS_TEXT
        ) from error


def _settings(method: str, model: nn.Module, rows: Mapping[str, Implementation], dtype: str) -> Any:
    from transformers import BitsAndBytesConfig, TorchAoConfig

    if method == "torchao":
        from torchao.quantization import FqnToConfig

        return TorchAoConfig(FqnToConfig({f"{name}.weight": row.load().config() for name, row in rows.items()}))
    (row,) = {row.precision for row in rows.values()}
    layers = [name for name, module in model.named_modules() if isinstance(module, nn.Linear | Conv1D)]
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type=row,
        bnb_4bit_compute_dtype=getattr(torch, dtype),
        llm_int8_skip_modules=[name for name in layers if name not in rows],
    )


def _must_be_layers(model: nn.Module, modules: Mapping[str, str], method: str) -> None:
    known = (nn.Linear, Conv1D) if method == "bitsandbytes" else (nn.Linear,)
    for name in modules:
        module = model.get_submodule(name)
        if type(module) not in known and not (method == METHOD and stacked(module)):
            other = "Export it by bitsandbytes, with nf4 or fp4. " if type(module) is Conv1D else ""
            other = f"Export it by {METHOD}, with integers. " if stacked(module) else other
            raise UnsupportedModel(
                f"{name} is a {type(module).__name__}; {method} holds plain linear layers only.", f"{other}{AS_TEXT}"
            )


def _must_fit(model: nn.Module, rows: Mapping[str, Implementation], method: str) -> None:
    for name, row in rows.items():
        module = model.get_submodule(name)
        if isinstance(module, nn.Linear) and (why := row.load().unfit(module)):
            raise UnsupportedModel(
                f"{method} cannot take {name} in {PRECISIONS[row.precision].label}: {why}.",
                "Choose a precision with one scale for each output, or smaller groups.",
            )


def _beside(folder: Path, source: Path) -> None:
    """What lies beside weights and config: tokenizer, generation settings."""
    for path in source.iterdir():
        beside = path.suffix in (".json", ".txt", ".model", ".jinja") and "index" not in path.name
        if path.is_file() and beside and not (folder / path.name).exists():
            shutil.copyfile(path, folder / path.name)


def _read_again(folder: Path, test: Opening, modules: Mapping[str, str], progress: Progress) -> Exported:
    read = loading.load(checkpoint.read(folder), next(row for row in PRECISIONS.values() if row.family == STORED))
    mix, equal, difference = Mix("recipe", modules), True, 0.0
    heard = Heard(test.prepared, [mix.name])
    names = [test.reference.name, *(row.name for row in test.rows)]
    with test.opened.loaded(names, lambda phase: progress(phase, 0.5)) as (reference, *others):
        models = {row.name: (row, other.model) for row, other in zip(test.rows, others, strict=True)}
        for number, batch in enumerate(test.prepared.batches):
            progress("comparing what was written", 0.5 + 0.5 * number / len(test.prepared.batches))
            own = run(reference.model, batch, test.reference)
            asked = mixed(test, reference.model, models, mix, batch)
            with explained(read.model, PRECISIONS["stored"], "be run as it was written"):
                given = run(read.model, batch, test.reference)
            heard.output(number, {REFERENCE: own, mix.name: given})
            equal &= torch.equal(asked.logits, given.logits)
            difference = max(difference, float((asked.logits - given.logits).abs().max()))
    kl = estimates(heard.candidates[mix.name].positions())["kl_mean"]
    files = tuple(sorted(path.name for path in folder.iterdir()))
    size = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    return Exported(str(folder), files, size, equal, difference, kl)
