"""The lines that load a model: they run, and give the format that they promise."""

from typing import Any

import pytest
import torch

from qfund.features.compare.words.use_it import lines, of_file
from qfund.precisions.table import PRECISIONS

TASK = "causal language model"


def found(precision: str, model: str = "pydoc-llama", revision: str | None = None, task: str = TASK) -> dict[str, str]:
    return {one.library: one.code for one in lines(model, revision, task, precision)}


def test_only_those_are_named_that_have_the_format() -> None:
    assert list(found("bf16")) == ["transformers", "llama.cpp", "vLLM"]
    assert list(found("fp32", task="text encoder")) == ["transformers"]
    assert list(found("int4_bf16")) == ["torchao"] and list(found("nf4_bf16")) == ["bitsandbytes"]
    assert list(found("int8_dynamic")) == ["torchao", "bitsandbytes"]
    assert found("mxfp4_bf16") == {} and found("bf16_weights") == {} and found("tf32") == {} and found("what") == {}
    assert list(found("stored")) == ["transformers"]
    (byte,) = lines("pydoc-llama", None, TASK, "int4_bf16")
    assert "whole byte" in byte.note, "what is other than here is said"


@pytest.mark.parametrize("precision", [*PRECISIONS])
def test_python_is_python_and_names_the_model_once(precision: str) -> None:
    for one in lines("/a \"folder\" 'of' mine", "a'b", TASK, precision):
        if one.language == "python":
            compile(one.code, one.library, "exec")
            assert one.code.count("folder") == 1 and "revision=" in one.code
        else:
            assert "--revision 'a'\"'\"'b'" in one.code


@pytest.mark.parametrize(
    ("precision", "library", "kind"),
    [
        ("bf16", "transformers", "Parameter"),
        ("int8_bf16", "torchao", "Int8Tensor"),
        ("int4", "torchao", "IntxUnpackedToInt8Tensor"),
        ("nf4_bf16", "bitsandbytes", "Params4bit"),
    ],
)
def test_the_lines_load_what_they_promise(precision: str, library: str, kind: str) -> None:
    names: dict[str, Any] = {}
    exec(found(precision)[library], names)
    model = names["model"]
    assert type(model.model.layers[0].self_attn.q_proj.weight).__name__ == kind
    assert model.dtype == getattr(torch, PRECISIONS[precision].dtype)
    assert type(model.lm_head.weight).__name__ == "Parameter", "the head stays, as here"


def test_types_of_gguf_files_are_made_by_llama_quantize() -> None:
    for row, pure, kind in (("q4_k_m", "", "Q4_K_M"), ("q4_k", "--pure ", "Q4_K"), ("q2_k_mix", "", "Q2_K")):
        made, loaded = lines("pydoc-llama", None, TASK, row)
        convert, quantize, run = made.code.splitlines()
        assert convert.endswith("models/pydoc-llama --outtype f32 --outfile model-f32.gguf")
        assert quantize == f"llama-quantize {pure}model-f32.gguf model-{kind}.gguf {kind}"
        assert run == f"llama-server -m model-{kind}.gguf" and f"gguf_file='model-{kind}.gguf'" in loaded.code
    (as_run,) = lines("pydoc-llama", None, TASK, "q4_k_m_inputs", "my imatrix.gguf")
    assert "llama-quantize --imatrix 'my imatrix.gguf' model-f32.gguf" in as_run.code
    assert lines("pydoc-llama", None, "text encoder", "q4_k_m") == []


def test_files_that_are_there_are_run_as_they_are() -> None:
    served, loaded = of_file("./my dir/x-Q4_K_M.gguf", "gguf", TASK)
    assert served.code == "llama-server -m './my dir/x-Q4_K_M.gguf'"
    assert loaded.code.endswith("from_pretrained('my dir', gguf_file='x-Q4_K_M.gguf')")
    served, loaded = of_file("owner/name@v1:sub/x.gguf", "gguf", TASK)
    assert served.code == "llama-server -hf owner/name -hff sub/x.gguf"
    assert loaded.code.endswith("from_pretrained('owner/name', gguf_file='sub/x.gguf', revision='v1')")
    (encoder,) = of_file("./x.gguf", "gguf", "text encoder")
    assert "AutoModel.from_pretrained('.', gguf_file='x.gguf')" in encoder.code
    loaded, served = of_file("owner/name-awq@v1", "awq", TASK)
    assert "from_pretrained('owner/name-awq', revision='v1')" in loaded.code
    assert served.code == "vllm serve owner/name-awq --revision v1"
    assert [one.library for one in of_file("./mlx-folder", "mlx", TASK)] == ["MLX"]
    assert of_file("recipe.json", "recipe", TASK) == []
    for one in (*of_file("a'\"b.gguf", "gguf", TASK), *of_file("a'\"b", "gptq", TASK)):
        if one.language == "python":
            compile(one.code, one.library, "exec")
