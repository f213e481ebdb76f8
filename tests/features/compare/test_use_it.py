"""The lines that load a model: they run, and give the format that they promise."""

from typing import Any

import pytest
import torch

from qfund.features.compare.words.use_it import lines
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
