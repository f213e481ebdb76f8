"""GGUF files of tiny checkpoints, written with gguf's own writer as llama.cpp's converter writes them.

The numbers are changed here as convert_hf_to_gguf changes them: heads of queries and keys interleaved for llama, norms
raised by one for gemma, layers of GPT-2 turned, experts stacked, A of a state space raised out of its logarithm.
"""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gguf import MODEL_ARCH_NAMES, GGMLQuantizationType, GGUFWriter, get_tensor_name_map
from gguf.constants import GGML_QUANT_SIZES
from gguf.quants import dequantize, quantize
from numpy.typing import NDArray
from safetensors.torch import load_file

from qfund.checkpoints import checkpoint

Values = NDArray[np.float32]

#: transformers' model type → gguf's architecture, where the two are not called alike.
ARCHITECTURES = {
    "mistral": "llama",
    "mixtral": "llama",
    "qwen2_moe": "qwen2moe",
    "qwen3_moe": "qwen3moe",
    "gemma3_text": "gemma3",
    "gpt_oss": "gpt-oss",
    "phi": "phi2",
}


def write(
    folder: Path,
    path: Path,
    kind: str = "Q8_0",
    kinds: Mapping[str, str] | None = None,
    leave: Callable[[str], bool] = lambda name: False,
    values: Mapping[str, Any] | None = None,
    vocabulary: list[str] | None = None,
) -> dict[str, Values]:
    """A file of the checkpoint in ``folder``: matrices in ``kind`` (or as ``kinds`` says by their names in the file)
    where their rows are whole blocks, the rest in F32; without the tensors that ``leave`` names. Gives the checkpoint's
    tensors as whoever decodes the file must find them."""
    config = checkpoint.read_config(folder)
    state: dict[str, Values] = {}
    for shard in sorted(folder.glob("*.safetensors")):
        state |= {name: tensor.float().numpy() for name, tensor in load_file(shard).items()}
    model_type = config["model_type"]
    architecture = ARCHITECTURES.get(model_type, model_type)
    writer = GGUFWriter(path, architecture)
    layers = int(config.get("num_hidden_layers") or config["n_layer"])
    writer.add_block_count(layers)
    for key, value in (values or {}).items():
        add: dict[type, Any] = {float: writer.add_float32, bool: writer.add_bool, str: writer.add_string}
        add.get(type(value), writer.add_uint32)(key, value)
    if vocabulary is not None:
        writer.add_token_list(vocabulary)
    found: dict[str, Values] = {}
    for name, (tensor, back) in _converted(state, config, architecture, layers).items():
        if leave(name):
            continue
        chosen = (kinds or {}).get(name, kind if tensor.ndim > 1 and "norm" not in name else "F32")
        number = GGMLQuantizationType[chosen]
        if tensor.shape[-1] % GGML_QUANT_SIZES[number][0]:
            chosen, number = "F32", GGMLQuantizationType.F32
        data = quantize(np.ascontiguousarray(tensor, np.float32), number)
        writer.add_tensor(name, data, raw_dtype=None if chosen in ("F32", "F16") else number)
        found |= back(np.asarray(dequantize(data, number), np.float32).reshape(tensor.shape))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return found


Converted = dict[str, tuple[Values, Callable[[Values], dict[str, Values]]]]


def _converted(state: Mapping[str, Values], config: Mapping[str, Any], architecture: str, layers: int) -> Converted:
    """Name in the file → what is written, and what the checkpoint's tensors become of that."""
    arch = next(key for key, name in MODEL_ARCH_NAMES.items() if name == architecture)
    table = get_tensor_name_map(arch, layers)
    made: Converted = {}
    stacks: dict[tuple[str, str], dict[int, str]] = {}
    for name, tensor in state.items():
        if part := re.fullmatch(r"(.*\.experts)\.(\d+)\.(\w+)\.weight", name):
            stacks.setdefault((part[1], part[3]), {})[int(part[2])] = name
            continue
        if architecture == "gpt-oss" and ".experts." in name:
            made |= _gpt_oss(name, tensor, table)
            continue
        base, _, leaf = name.rpartition(".")
        suffix = f".{leaf}" if leaf in ("weight", "bias") else ""
        whole = base if suffix else name
        file = table.get_name(whole) or table.get_name(whole.removeprefix("transformer."))
        assert file is not None, name
        file += ".weight" if leaf == "sinks" else suffix
        there, back = _changed(file, tensor, config, architecture)
        made[file] = there, lambda values, name=name, back=back: {name: back(values)}  # type: ignore[misc]
    for (experts, kind), names in stacks.items():
        file = table.get_name(f"{experts}.{kind}") or ""
        ordered = [names[number] for number in sorted(names)]
        stack = np.stack([state[name] for name in ordered])
        made[f"{file}.weight"] = stack, lambda values, ordered=ordered: dict(zip(ordered, values, strict=True))  # type: ignore[misc]
    return made


def _changed(
    file: str, tensor: Values, config: Mapping[str, Any], architecture: str
) -> tuple[Values, Callable[[Values], Values]]:
    shape = tensor.shape
    if architecture == "llama" and (part := re.search(r"attn_([qk])\.", file)):
        heads = config["num_attention_heads" if part[1] == "q" else "num_key_value_heads"]
        half = shape[0] // heads // 2
        there = tensor.reshape(heads, 2, half, *shape[1:]).swapaxes(1, 2).reshape(shape)
        return there, lambda values: values.reshape(heads, half, 2, *shape[1:]).swapaxes(1, 2).reshape(shape)
    if architecture.startswith("gemma") and file.endswith("norm.weight"):
        return tensor + np.float32(1), lambda values: values - np.float32(1)
    if architecture == "gpt2" and re.search(r"blk.*(attn_qkv|attn_output|ffn_up|ffn_down)\.weight", file):
        return np.ascontiguousarray(tensor.T), lambda values: values.T
    if architecture == "bloom" and "attn_qkv" in file:
        heads = config["n_head"]
        apart = tensor.reshape(heads, 3, -1, *shape[1:])
        there = np.concatenate([apart[:, part].reshape(-1, *shape[1:]) for part in range(3)])
        return there, lambda values: np.stack(
            [part.reshape(heads, -1, *shape[1:]) for part in np.split(values, 3)], 1
        ).reshape(shape)
    if architecture == "mamba" and file.endswith("ssm_a"):
        return -np.exp(tensor), lambda values: np.log(-values)
    squeezed = tensor.squeeze() if 1 in shape and len(shape) > 1 else tensor
    return squeezed, lambda values: values.reshape(shape)


def _gpt_oss(name: str, tensor: Values, table: Any) -> Converted:
    """Experts of gpt-oss: [experts, in, out], gate and up in turn."""
    experts, _, leaf = name.rpartition(".")
    suffix = ".bias" if leaf.endswith("_bias") else ".weight"

    def turned(values: Values) -> Values:
        return np.ascontiguousarray(values.swapaxes(1, 2)) if suffix == ".weight" else values

    if leaf.startswith("down"):
        file = f"{table.get_name(f'{experts}.down_proj')}{suffix}"
        return {file: (turned(tensor), lambda values: {name: turned(values)})}
    halves: dict[str, Values] = {}

    def back(which: str) -> Callable[[Values], dict[str, Values]]:
        def put(values: Values) -> dict[str, Values]:
            halves[which] = turned(values)
            if len(halves) < 2:
                return {}
            both = np.empty_like(tensor)
            both[..., ::2], both[..., 1::2] = halves["gate"], halves["up"]
            return {name: both}

        return put

    return {
        f"{table.get_name(f'{experts}.{which}_proj')}{suffix}": (turned(tensor[..., start::2]), back(which))
        for start, which in enumerate(("gate", "up"))
    }


def decoded(found: Mapping[str, Values]) -> dict[str, torch.Tensor]:
    """As a state dict."""
    return {name: torch.from_numpy(np.ascontiguousarray(values)) for name, values in found.items()}
