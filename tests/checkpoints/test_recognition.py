"""Folders that are something else, and names that a wrapper has left its own in: each said for what it is."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from qfund.checkpoints import checkpoint, ties
from qfund.checkpoints.recognition import without_wrapper
from qfund.core.errors import QfundError
from tests.tiny import checkpoints

CONFIG = {"architectures": ["LlamaForCausalLM"], "model_type": "llama"}
NOT_MODELS = {
    "adapter": (None, ["adapter_config.json", "adapter_model.safetensors"], "adapter (LoRA", "merge_and_unload"),
    "adapter-of-a-trainer": (CONFIG, ["adapter_config.json", "adapter_model.safetensors", "optimizer.pt"], "LoRA", "M"),
    "variant": (CONFIG, ["model.fp16.safetensors", "training_args.bin"], "variant: model.fp16.saf", "variant='fp16'"),
    "variant-shards": (CONFIG, ["model.safetensors.index.fp16.json", "model.fp16-00001-of-00002.safetensors"], "v", ""),
    "shards": (CONFIG, ["model-00001-of-00002.safetensors"], "1 of 2 shards", "index"),
    "pipeline": (None, ["model_index.json"], "pipeline of diffusers", "text_encoder"),
    "unet": ({"_class_name": "UNet"}, ["diffusion_pytorch_model.safetensors"], "diffusers (UNet)", "text_encoder"),
    "sentence": (None, ["modules.json"], "sentence-transformers", "0_Transformer"),
    "trainer": (CONFIG, ["training_args.bin", "optimizer.pt"], "what a trainer keeps", "save_model()"),
    "zero": (CONFIG, ["zero_to_fp32.py", "latest"], "DeepSpeed or FSDP", "zero_to_fp32.py"),
    "mistral": (CONFIG, ["consolidated.safetensors"], "Mistral's own layout", "model.safetensors"),
    "tensorflow": (CONFIG, ["tf_model.h5"], "TensorFlow only", "safetensors"),
    "pickle": (CONFIG, ["pytorch_model.bin", "training_args.bin"], "pickled weights only", "save_pretrained()"),
}


@pytest.mark.parametrize("name", NOT_MODELS)
def test_a_folder_is_said_for_what_it_is(name: str, tmp_path: Path) -> None:
    config, files, said, remedy = NOT_MODELS[name]
    if config:
        (tmp_path / "config.json").write_text(json.dumps(config))
    for file in files:
        (tmp_path / file).write_text("{}")
    with pytest.raises(QfundError) as caught:
        checkpoint.read_headers(tmp_path)
    assert said in caught.value.message and remedy in caught.value.remedy


def test_a_folder_of_the_hubs_cache_names_its_snapshot(tmp_path: Path) -> None:
    snapshot = tmp_path / "models--owner--name" / "snapshots" / "0123"
    snapshot.mkdir(parents=True)
    with pytest.raises(QfundError) as caught:
        checkpoint.read_headers(tmp_path / "models--owner--name")
    assert str(snapshot) in caught.value.remedy and "owner/name" in caught.value.remedy


def changed(tmp_path: Path, change: object, **config: object) -> Path:
    """A tiny Llama, its tensors and config changed."""
    folder = checkpoints.make("llama", tmp_path / "model")
    save_file(change(load_file(folder / "model.safetensors")), folder / "model.safetensors", {"format": "pt"})  # type: ignore[operator]
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | config))
    return folder


REFUSED: dict[str, tuple[Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]], dict[str, Any], str]] = {
    "I64": (lambda held: {name: (tensor * 9).long() for name, tensor in held.items()}, {}, "in I64"),
    "C64": (lambda held: {name: tensor.to(torch.complex64) for name, tensor in held.items()}, {}, "in C64"),
    "BOOL": (lambda held: {name: tensor > 0 for name, tensor in held.items()}, {}, "in BOOL"),
    "zero-3": (lambda held: {name: tensor.new_zeros(0) for name, tensor in held.items()}, {}, "ZeRO-3"),
    "left-over": (lambda held: held, {"quantization_config": {"quant_method": "gptq", "bits": 4}}, "left over"),
    "mlx": (
        lambda held: {name: tensor.new_zeros(8).to(torch.uint32) for name, tensor in held.items()},
        {"quantization": {"group_size": 32, "bits": 4}},
        "quantised for MLX",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_weights_that_are_no_numbers_of_a_model(name: str, tmp_path: Path) -> None:
    change, config, said = REFUSED[name]
    with pytest.raises(QfundError) as caught:
        checkpoint.read_headers(changed(tmp_path, change, **config))
    assert said in caught.value.message


@pytest.mark.parametrize(
    ("stored", "clean", "wrapper"),
    [
        ("module.model.a.weight", "model.a.weight", "module."),
        ("_orig_mod.model.a.weight", "model.a.weight", "_orig_mod."),
        ("module._orig_mod.a.weight", "a.weight", "module."),
        (
            "_fsdp_wrapped_module.a.0._fsdp_wrapped_module._checkpoint_wrapped_module.b",
            "a.0.b",
            "_fsdp_wrapped_module.",
        ),
        ("a.module.weight", "a.module.weight", ""),
    ],
)
def test_the_name_of_a_wrapper_is_taken_out(stored: str, clean: str, wrapper: str) -> None:
    assert without_wrapper([stored]) == ({clean: stored}, wrapper)


def test_tensors_are_the_same_to_the_last_byte(tmp_path: Path) -> None:
    first = torch.arange(300_000, dtype=torch.float32)
    second = first.clone()
    second[-1] += 1
    tensors = {"a": first, "b": first.clone(), "c": second, "d": first.half(), "e": first[:-1].clone()}
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    save_file(tensors, tmp_path / "model.safetensors")
    found = checkpoint.read_headers(tmp_path)
    assert [ties.same(found, "a", other).same for other in "bcde"] == [True, False, False, False]
    assert ties.same(found, "a", "b", whole=False).sampled and not ties.same(found, "a", "c", whole=False).same
