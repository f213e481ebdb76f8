"""What is really in a quantised file: worked out by hand of a tiny one."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from qfund.cli import main
from qfund.core.errors import InvalidSpec, UnsupportedModel
from qfund.features.audit import tables, words
from qfund.features.audit.measure import audit
from qfund.features.audit.request import AuditRequest, by_module, changed, checked, contents, identity, kept_higher
from tests.checkpoints.wild.packed import folders as packed
from tests.checkpoints.wild.packed.formats import CASES
from tests.tiny import gguf_files
from tests.tiny.checkpoints import folder

KINDS = {"blk.1.ffn_up.weight": "Q8_0", "token_embd.weight": "F16"}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The tiny Llama in Q4_0, one matrix kept higher, embeddings in 16 bits."""
    path = tmp_path_factory.mktemp("audit") / "tiny.gguf"
    return path, gguf_files.write(folder("llama"), path, kind="Q4_0", kinds=KINDS)


def test_each_tensor_is_held_against_the_originals(made: tuple[Path, dict[str, Any]]) -> None:
    path, decoded = made
    found = audit(AuditRequest(str(path), str(folder("llama"))))
    own = load_file(folder("llama") / "model.safetensors")
    assert [row.name for row in found.tensors] == list(own)
    for row in found.tensors:
        original, values = own[row.name].astype(np.float64), decoded[row.name].astype(np.float64)
        noise = ((original - values) ** 2).sum()
        assert row.same is bool(noise == 0)
        if noise:
            assert row.sqnr == pytest.approx(10 * np.log10((original**2).sum() / noise))
            assert row.largest == np.abs(original - values).max()
    assert not changed(found)
    assert {row.name for row in kept_higher(found)} == {
        "model.layers.0.mlp.down_proj.weight",  # whose rows are no whole blocks
        "model.layers.1.mlp.down_proj.weight",
        "model.layers.1.mlp.up_proj.weight",
        "model.embed_tokens.weight",
    }
    said = list(words.findings(found))
    assert "Norms, biases and routers are the original's." in said
    (sentence,) = [one for one in said if "kept higher" in one]
    assert sentence.startswith("Most weights are Q4_0; kept higher (F16, F32 and Q8_0): model.embed_tokens, ")
    assert "model.layers.*.mlp.up_proj (layers 1)" in sentence


def test_the_head_alone_tells_bytes_and_bits(made: tuple[Path, dict[str, Any]]) -> None:
    path, _ = made
    found = contents(AuditRequest(str(path)))
    size = 300 * 32 * 2
    assert (found.types["F16"].tensors, found.types["F16"].bytes) == (1, size)
    assert found.bits_of_file == 8 * path.stat().st_size / found.parameters
    assert sum(row.bytes for row in found.tensors) == sum(share.bytes for share in found.types.values())
    coded = [row for row in found.tensors if row.quantized]
    expected = 8 * sum(row.bytes for row in coded) / sum(row.parameters for row in coded)
    assert found.bits_of_quantized == pytest.approx(expected)
    assert all(row.same is None and row.sqnr is None for row in found.tensors)
    up = [(kind.type, kind.layers) for kind in by_module(found.tensors) if "ffn_up" in kind.name]
    assert sorted(up) == [("Q4_0", (0,)), ("Q8_0", (1,))]
    assert len(tables.tensors(found)) == 1 + len(found.tensors)


@pytest.mark.parametrize(
    ("name", "rounded"),
    [("nf4", None), ("ct-int4", None), ("ao-int8", None), ("ct-w8a8", "int8"), ("ao-int4-awq", "fp8, by token")],
)
def test_kernels_round_inputs_where_the_folder_says_so(name: str, rounded: str | None, tmp_path: Path) -> None:
    """Of a format of which some folders do, not of all of them."""
    packed.single(CASES[name], 16, 64, tmp_path)
    said = [one for one in words.findings(contents(AuditRequest(str(tmp_path)))) if "more than weights" in one]
    assert len(said) == (rounded is not None) and all(str(rounded) in one for one in said)


def test_norms_and_routers_that_were_rounded_are_named(tmp_path: Path) -> None:
    kinds = {"blk.0.attn_norm.weight": "Q8_0", "blk.1.ffn_norm.weight": "F16"}
    gguf_files.write(folder("llama"), tmp_path / "norms.gguf", kinds=kinds)
    found = audit(AuditRequest(str(tmp_path / "norms.gguf"), str(folder("llama"))))
    names = ["model.layers.0.input_layernorm.weight", "model.layers.1.post_attention_layernorm.weight"]
    assert [row.name for row in changed(found)] == names
    (sentence,) = [one for one in words.findings(found) if "should have been left alone" in one]
    assert "model.layers.*.input_layernorm (layers 0)" in sentence and "1 tensor of them as codes" in sentence
    gguf_files.write(folder("mixtral"), tmp_path / "routers.gguf", kinds={"blk.0.ffn_gate_inp.weight": "Q4_0"})
    found = audit(AuditRequest(str(tmp_path / "routers.gguf"), str(folder("mixtral"))))
    routers = {row.name for row in changed(found) if row.type == "Q4_0"}
    assert len(routers) == 1 and "gate" in routers.pop()


def test_another_models_weights_are_unlike(tmp_path: Path) -> None:
    gguf_files.write(folder("llama"), tmp_path / "a.gguf")
    found = audit(AuditRequest(str(tmp_path / "a.gguf"), str(folder("llama-stored-bf16"))))
    assert not any("nothing like" in sentence for sentence in words.findings(found))  # the same weights in 16 bits
    with pytest.raises(UnsupportedModel, match="another architecture"):
        audit(AuditRequest(str(tmp_path / "a.gguf"), str(folder("qwen3"))))


def test_requests_are_checked(made: tuple[Path, dict[str, Any]]) -> None:
    with pytest.raises(InvalidSpec):
        checked(AuditRequest(" "))
    with pytest.raises(InvalidSpec, match="without an original"):
        checked(AuditRequest("x.gguf", revision="main"))
    alone = identity(AuditRequest(str(made[0])))
    assert alone.startswith("sha256:") and alone != identity(AuditRequest(str(made[0]), "dummy"))


def ended(*arguments: str) -> int | str | None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    return caught.value.code


def test_commands_print_it(made: tuple[Path, dict[str, Any]], capsys: pytest.CaptureFixture[str]) -> None:
    path = str(made[0])
    assert ended("audit", path, "--original", str(folder("llama")), "--quiet", "--no-store") == 0
    assert "kept higher" in capsys.readouterr().out
    assert ended("audit", path, "--tensors", "--json", "--quiet", "--no-store") == 0
    assert json.loads(capsys.readouterr().out)["format"] == "gguf"
    assert ended("plan", path) == 0
    assert "blk.*.attn_q.weight" in capsys.readouterr().out
    assert ended("compare", path) == 1
    said = capsys.readouterr().err
    assert "compare ORIGINAL --file" in said and "Traceback" not in said
    assert ended("audit", "./nothing.gguf", "--no-store") == 1
