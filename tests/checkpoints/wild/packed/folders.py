"""Checkpoints of ``tests.tiny`` whose matrices are in a published format."""

import json
import re
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from tests.checkpoints.wild.packed.formats import Case
from tests.tiny import checkpoints

#: Matrices that tools leave alone.
_LEFT = re.compile(r"embed|wte|wpe|head|norm|ln_|router|gate\.weight|bias|conv1d|word_emb|A_log")
_CONV1D = re.compile(r"\.(c_attn|c_proj|c_fc)\.weight$")


def write(name: str, case: Case, folder: Path) -> dict[str, Tensor]:
    """The checkpoint ``name`` with each matrix that fits in the format of ``case``; what each tensor then stands for,
    by its name in the original, as the original keeps it."""
    torch.manual_seed(0)
    source = checkpoints.folder(name)
    shutil.copytree(source, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    conv = name.startswith("gpt2")
    tensors: dict[str, Tensor] = {}
    metadata: dict[str, str] = {"format": "pt"}
    values: dict[str, Tensor] = {}
    for key, tensor in load_file(source / "model.safetensors").items():
        turn = conv and _CONV1D.search(key) is not None
        out, inputs = (tensor.T if turn else tensor).shape if tensor.dim() == 2 else (0, 0)
        if not out or _LEFT.search(key) or not key.endswith(".weight") or not case.fits(out, inputs):
            tensors[key] = values[key] = tensor
            if "torchao" in str(case.settings):
                metadata[key] = json.dumps({"_type": "Tensor"})
            continue
        made = case.write(out, inputs)
        module = key.removesuffix(".weight")
        for kind, part in made.parts.items():
            tensors[module + kind] = part.contiguous()
        for entry, text in made.metadata.items():
            metadata[entry.replace("@", module)] = text
        values[key] = (made.value.T if turn else made.value).float()
    if len(metadata) > 1:
        metadata["tensor_names"] = json.dumps([entry for entry in metadata if entry != "format"])
    save_file(tensors, folder / "model.safetensors", metadata)
    config = json.loads((folder / "config.json").read_text())
    config["dtype"] = "bfloat16"
    config[case.key] = case.settings
    (folder / "config.json").write_text(json.dumps(config))
    return values


def single(case: Case, out: int, inputs: int, folder: Path) -> Tensor:
    """A checkpoint of one matrix [out, in], ``model.layers.0.up_proj``, in the format; what it stands for."""
    torch.manual_seed(out * 1000 + inputs)
    made = case.write(out, inputs)
    save(case.settings, {MODULE + kind: part for kind, part in made.parts.items()}, folder, case.key, made.metadata)
    return made.value.float()


#: The one of ``single``.
MODULE = "model.layers.0.up_proj"


def save(
    settings: object,
    tensors: dict[str, Tensor],
    folder: Path,
    key: str = "quantization_config",
    metadata: dict[str, str] | None = None,
    **config: object,
) -> None:
    """These tensors, and a config with these settings."""
    folder.mkdir(parents=True, exist_ok=True)
    described = {entry.replace("@", MODULE): text for entry, text in (metadata or {}).items()}
    if described:
        described["tensor_names"] = json.dumps(list(described))
    save_file({name: part.contiguous() for name, part in tensors.items()}, folder / "model.safetensors", described)
    plain = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "dtype": "bfloat16"}
    (folder / "config.json").write_text(json.dumps({**plain, key: settings, **config}))
