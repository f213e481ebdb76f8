"""A recipe written as a checkpoint of compressed-tensors, and measured again from what was written."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from qfund.checkpoints import checkpoint
from qfund.core.errors import InvalidSpec, UnavailablePrecision, UnsupportedModel
from qfund.core.metrics.estimates import estimates
from qfund.core.progress import Progress
from qfund.features.layers.measure.opening import Opening, opening
from qfund.features.layers.measure.searched import split
from qfund.features.layers.measure.swapped import REFERENCE, Heard, mixed
from qfund.features.layers.request.exports import LAYOUT, METHOD, Exported, integers, must_hold
from qfund.features.layers.request.recipe import Recipe
from qfund.models import loading
from qfund.models.forward import run
from qfund.precisions.precision import STORED
from qfund.precisions.quantizers.integer import Integer
from qfund.precisions.quantizers.packing import unpack
from qfund.precisions.quantizers.quantizer import quantizer_of
from qfund.precisions.table import PRECISIONS
from qfund.stream.mixed import Mix

WEIGHTS = "model.safetensors"


def exported(found: Recipe, folder: Path, progress: Progress = lambda phase, share: None) -> Exported:
    """Write the recipe to a folder, read that as anybody would, and run both on the recipe's test text.

    Raises:
        InvalidSpec: the format does not hold one of its rows, or the folder cannot be written.
        UnsupportedModel: a module is no plain linear layer, or its rows are no multiple of a group.
        UnavailablePrecision: compressed-tensors is not installed.
        QfundError: the model cannot be loaded.
    """
    request, modules = found.request, found.recipe.modules
    must_hold(modules.values(), request.reference)
    whole = opening(replace(request, max_tokens=request.max_tokens + request.test_tokens), progress)
    _, test = split(whole, request.max_tokens)
    with whole.opened.loaded([request.reference], lambda phase: progress(phase, 0.1)) as (reference,):
        state, settings = _state(reference.model, modules, request.reference)
        _write(folder, whole, reference.model, state, settings)
    return _read_again(folder, test, modules, progress)


def _state(model: nn.Module, modules: Mapping[str, str], reference: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What is stored by name, and what ``config.json`` says of it."""
    pack = _packer()
    state, seen = dict[str, Tensor](), set[int]()
    for name, tensor in model.state_dict().items():
        if tensor.data_ptr() not in seen or not tensor.numel():  # tied weights are stored once
            state[name] = tensor.detach().cpu().contiguous()
            seen.add(tensor.data_ptr())
    groups: dict[str, list[str]] = {}
    for name, row in modules.items():
        if row == reference:
            continue
        weight = _weight(model, name)
        quantizer, held = quantizer_of(PRECISIONS[row]), integers(PRECISIONS[row])
        assert isinstance(quantizer, Integer) and held is not None
        if held.group and weight.shape[1] % held.group:
            raise UnsupportedModel(
                f"{name} has rows of {weight.shape[1]:,}, no multiple of {held.group}, which {METHOD} cannot hold.",
                "Choose a precision with one scale for each output, or smaller groups.",
            )
        stored = {key: value.cpu() for key, value in quantizer.quantize(weight).items()}
        codes = stored["data"]
        if quantizer.bits < 8:
            codes = unpack(codes, quantizer.bits, weight.shape[1]).view(torch.int8) + quantizer.q_min
        del state[f"{name}.weight"]
        state[f"{name}.weight_packed"] = pack(codes, quantizer.bits)
        state[f"{name}.weight_scale"] = stored["scale"].contiguous()
        state[f"{name}.weight_shape"] = torch.tensor(weight.shape)
        groups.setdefault(row, []).append(name)
    if not groups:
        raise InvalidSpec(
            f"The recipe leaves every module in {PRECISIONS[reference].label}: there is nothing to write.",
            "Give a smaller budget.",
        )
    quantized = {name for names in groups.values() for name in names}
    linear = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    settings = {
        "quant_method": METHOD,
        "format": LAYOUT,
        "quantization_status": "compressed",
        "ignore": [name for name in linear if name not in quantized],
        "config_groups": {
            f"group_{number}": {
                "targets": names,
                "weights": _settings(row),
                "input_activations": None,
                "output_activations": None,
            }
            for number, (row, names) in enumerate(groups.items())
        },
    }
    return state, settings


def _settings(row: str) -> dict[str, object]:
    held = integers(PRECISIONS[row])
    assert held is not None
    return held.settings


def _weight(model: nn.Module, name: str) -> Tensor:
    module = model.get_submodule(name)
    if type(module) is not nn.Linear:
        raise UnsupportedModel(
            f"{name} is a {type(module).__name__}; {METHOD} holds plain linear layers only.",
            "Measure a recipe without --also, or keep it as text (--save).",
        )
    return module.weight.detach()


def _packer() -> Any:
    try:
        from compressed_tensors.compressors.pack_quantized.helpers import pack_to_int32  # type: ignore[import-untyped]
    except ImportError as error:
        raise UnavailablePrecision(
            f"{METHOD} is not installed, which packs the codes.", "pip install compressed-tensors"
        ) from error
    return pack_to_int32


def _write(folder: Path, whole: Opening, model: Any, state: dict[str, Tensor], settings: dict[str, Any]) -> None:
    """Weights, the config, and what lies beside them: tokenizer, generation settings."""
    source = whole.opened.found.folder
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path in source.iterdir():
            beside = path.suffix in (".json", ".txt", ".model", ".jinja") and "index" not in path.name
            if path.is_file() and beside and path.name != "config.json":
                shutil.copyfile(path, folder / path.name)
        config = model.config.to_dict() | {"quantization_config": settings, "dtype": str(model.dtype).partition(".")[2]}
        (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", "utf-8")
        save_file(state, folder / WEIGHTS, {"format": "pt"})
        (folder / WEIGHTS).chmod((folder / "config.json").stat().st_mode)  # safetensors keeps it from everybody else
    except OSError as error:
        raise InvalidSpec(f"{folder} cannot be written: {error.strerror or error}.", "Name another folder.") from error


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
            given = run(read.model, batch, test.reference)
            heard.output(number, {REFERENCE: own, mix.name: given})
            equal &= torch.equal(asked.logits, given.logits)
            difference = max(difference, float((asked.logits - given.logits).abs().max()))
    kl = estimates(heard.candidates[mix.name].positions())["kl_mean"]
    files = tuple(sorted(path.name for path in folder.iterdir()))
    return Exported(str(folder), files, (folder / WEIGHTS).stat().st_size, equal, difference, kl)
