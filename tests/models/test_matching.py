"""What of a checkpoint its model reads, and what ties: transformers' own loading is the truth."""

import json
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from qfund.checkpoints import checkpoint
from qfund.core.errors import CorruptCheckpoint, UnsupportedModel
from qfund.features.memory.measure.fits import fits
from qfund.features.memory.measure.plan import plan
from qfund.features.memory.request.fits import FitsRequest, Workload
from qfund.features.memory.request.plan import PlanRequest, headers
from qfund.models.loading import load
from qfund.models.skeleton import Skeleton
from qfund.precisions.table import PRECISIONS
from tests.checkpoints.test_recognition import changed
from tests.tiny import checkpoints


def silent(phase: str, share: float) -> None: ...


def truth(folder: Path) -> tuple[int, set[str]]:
    """Bytes of transformers' model in fp32, and what it does not read."""
    config = transformers.AutoConfig.from_pretrained(folder)
    class_ = getattr(transformers, config.architectures[0])
    model, info = class_.from_pretrained(folder, dtype=torch.float32, output_loading_info=True)
    return model.get_memory_footprint(), set(info["unexpected_keys"])


@pytest.mark.parametrize("name", ["llama", "gpt2", "t5"])
@pytest.mark.parametrize("other", [False, True])
def test_a_tie_of_the_config_holds_where_the_values_are_equal(name: str, other: bool, tmp_path: Path) -> None:
    folder = checkpoints.make(name, tmp_path / "model")
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"tie_word_embeddings": True}))
    held = load_file(folder / "model.safetensors")
    source = next(
        key for key in ("model.embed_tokens.weight", "transformer.wte.weight", "shared.weight") if key in held
    )
    held["lm_head.weight"] = held[source].clone() + other
    save_file(held, folder / "model.safetensors", {"format": "pt"})
    counted, _ = truth(folder)
    found = plan(PlanRequest(str(folder), ("fp32",)), silent)
    assert found.entries[0].predicted_bytes == counted
    assert any("does not tie" in note for note in found.notes) == other
    assert ("does not tie it" in " ".join(headers(PlanRequest(str(folder)), silent).notes)) == other
    sized = fits(FitsRequest(str(folder), Workload(2**30, 16), ("fp32",)))
    assert sized.weights[0].bytes == counted


def test_what_no_module_reads_is_told(tmp_path: Path) -> None:
    extra = {"v_head.summary.weight": torch.ones(1, 32), "model.layers.9.mlp.up_proj.weight": torch.ones(48, 32)}
    folder = changed(tmp_path, lambda held: held | extra)
    _, unread = truth(folder)
    found = checkpoint.read(folder)
    assert set(Skeleton(found, torch.float32).matching.unread) == unread == {*extra}
    said = " ".join(plan(PlanRequest(str(folder), ("fp32",)), silent).notes)
    assert "2 stored tensors (6.12 KiB" in said and "model.layers.9.mlp.up_proj.weight" in said


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "_fsdp_wrapped_module._checkpoint_wrapped_module."])
def test_a_wrapped_model_is_read_as_it_was(prefix: str, tmp_path: Path) -> None:
    folder = changed(tmp_path, lambda held: {prefix + name: tensor for name, tensor in held.items()})
    plain = checkpoint.read(checkpoints.folder("llama"))
    found = checkpoint.read(folder)
    assert found.wrapper and found.tensors == plain.tensors
    expected, loaded = (load(one, PRECISIONS["fp32"]).model.state_dict() for one in (plain, found))
    assert all(torch.equal(expected[name], tensor) for name, tensor in loaded.items())
    assert found.wrapper in " ".join(plan(PlanRequest(str(folder), ("fp32",)), silent).notes)


def test_any_other_prefix_is_named(tmp_path: Path) -> None:
    folder = changed(tmp_path, lambda held: {f"policy.net.{name}": tensor for name, tensor in held.items()})
    with pytest.raises(CorruptCheckpoint, match=r"Without `policy\.net\.`"):
        plan(PlanRequest(str(folder), ("fp32",)), silent)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"architectures": ["FSDPLlamaForCausalLM"]}, "it is LlamaForCausalLM"),
        ({"architectures": ["OptimizedModule"]}, "is what wraps a model"),
        ({"architectures": ["PeftModelForCausalLM"]}, "is what wraps a model"),
        ({"rope_scaling": {"type": "foo", "factor": 2.0}}, "rope type 'foo'"),
        ({"num_hidden_layers": -1}, "num_hidden_layers = -1"),
        ({"hidden_size": "wide"}, "hidden_size = 'wide'"),
    ],
)
def test_a_config_that_cannot_be_built_says_why(config: dict[str, object], said: str, tmp_path: Path) -> None:
    folder = changed(tmp_path, lambda held: held, **config)
    with pytest.raises(UnsupportedModel) as caught:
        plan(PlanRequest(str(folder), ("fp32",)), silent)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    "config", [{"dtype": "auto"}, {"attn_implementation": "flash_attention_2"}, {"torch_dtype": "torch.bfloat16"}]
)
def test_dtype_and_attention_of_a_config_are_qfunds_to_choose(config: dict[str, str], tmp_path: Path) -> None:
    found = checkpoint.read(changed(tmp_path, lambda held: held, **config))
    assert next(load(found, PRECISIONS["fp32"]).model.parameters()).dtype == torch.float32


def packed(held: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """GPTQ's tensors, of 4 bits in groups of 16."""
    out = {}
    for name, weight in held.items():
        if weight.dim() == 2 and "layers" in name:
            (rows, columns), base = weight.shape, name.removesuffix(".weight")
            out[f"{base}.qweight"] = torch.zeros(columns // 8, rows, dtype=torch.int32)
            out[f"{base}.qzeros"] = torch.zeros(columns // 16, rows // 8, dtype=torch.int32)
            out[f"{base}.scales"] = torch.ones(columns // 16, rows, dtype=torch.float16)
        else:
            out[name] = weight.half()
    return out


def test_a_quantised_checkpoint_is_planned_and_fitted_as_it_is_stored(tmp_path: Path) -> None:
    quantization = {"quant_method": "gptq", "bits": 4, "group_size": 16}
    folder = changed(tmp_path, packed, quantization_config=quantization, dtype="float16")
    held = load_file(folder / "model.safetensors")
    size = sum(tensor.nbytes for tensor in held.values())
    coded = sum(held[name].nbytes for name in held if name.endswith("qweight"))
    beside = sum(held[name].nbytes for name in held if name.endswith(("qzeros", "scales")))
    for names in ((), ("stored",)):
        found = plan(PlanRequest(str(folder), names), silent)
        (entry,) = found.entries
        assert (entry.precision, entry.predicted_bytes) == ("stored", size)
        assert (entry.parts["quantised"], entry.parts["scales"]) == (coded, beside)
        assert entry.bits_per_weight == 8 * (coded + beside) / (2 * coded)
    weights = sum(tensor.numel() for tensor in load_file(checkpoints.folder("llama") / "model.safetensors").values())
    assert found.parameters == sum(entry.dtypes[name].parameters for name in entry.dtypes) == weights
    sized = fits(FitsRequest(str(folder), Workload(2**30, 16)))
    assert [(one.precision, one.bytes) for one in sized.weights] == [("stored", size)]
    with pytest.raises(UnsupportedModel, match="weights that are gone"):
        plan(PlanRequest(str(folder), ("bf16",)), silent)
