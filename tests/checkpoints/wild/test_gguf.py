"""GGUF files: heads that lie, every type bit for bit as gguf decodes it, and names back to the checkpoint's."""

import random
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import transformers
from gguf import GGMLQuantizationType, GGUFReader, GGUFWriter
from gguf.constants import GGML_QUANT_SIZES
from gguf.quants import dequantize
from safetensors.torch import load_file, save_file

from qfund.checkpoints import checkpoint
from qfund.checkpoints.wild import against, locating
from qfund.checkpoints.wild.filling import filled
from qfund.checkpoints.wild.gguf import types
from qfund.checkpoints.wild.gguf.opening import open_gguf
from qfund.checkpoints.wild.table import open_file
from qfund.core.errors import CorruptCheckpoint, ModelNotFound, QfundError, UnsupportedModel
from tests.tiny import gguf_files
from tests.tiny.checkpoints import CHECKPOINTS, VOCABULARY, WIDTH, Tiny, build, byte_level, folder, write

_SMALL = {
    "vocab_size": VOCABULARY,
    "hidden_size": WIDTH,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
}
_MIXED = {**_SMALL, "intermediate_size": 64, "moe_intermediate_size": 32, "num_experts": 3, "num_experts_per_tok": 2}
#: Besides those that are there for all tests.
MORE: dict[str, tuple[str, str, dict[str, Any]]] = {
    "qwen2": ("Qwen2ForCausalLM", "Qwen2Config", {**_SMALL, "intermediate_size": 64}),
    "qwen2-moe": (
        "Qwen2MoeForCausalLM",
        "Qwen2MoeConfig",
        {**_MIXED, "shared_expert_intermediate_size": 32, "decoder_sparse_step": 1},
    ),
    "qwen3-moe": ("Qwen3MoeForCausalLM", "Qwen3MoeConfig", {**_MIXED, "head_dim": 8}),
    "phi3": ("Phi3ForCausalLM", "Phi3Config", {**_SMALL, "intermediate_size": 64, "pad_token_id": 0}),
    "gpt-oss": (
        "GptOssForCausalLM",
        "GptOssConfig",
        {**_SMALL, "intermediate_size": 32, "num_local_experts": 3, "num_experts_per_tok": 2, "head_dim": 8},
    ),
    "starcoder2": ("Starcoder2ForCausalLM", "Starcoder2Config", {**_SMALL, "intermediate_size": 64}),
    "olmo2": ("Olmo2ForCausalLM", "Olmo2Config", {**_SMALL, "intermediate_size": 64}),
}
THERE = ("llama", "llama-untied", "mistral", "mixtral", "qwen3", "gemma2", "gemma3", "gpt2", "bloom", "mamba", "phi")


def original(name: str, tmp: Path) -> Path:
    if name in CHECKPOINTS:
        return folder(name)
    architecture, kind, changes = MORE[name]
    tiny = Tiny(architecture, lambda: getattr(transformers, kind)(**changes), byte_level)
    write(build(tiny), tiny, tmp / name)
    return tmp / name


@pytest.mark.parametrize("name", (*THERE, *MORE))
def test_every_tensor_is_found_where_the_converter_put_it(name: str, tmp_path: Path) -> None:
    given = original(name, tmp_path)
    expected = gguf_files.write(given, tmp_path / "model.gguf")
    found, own = open_file(tmp_path / "model.gguf"), checkpoint.read(given)
    made = filled(own, found).packed
    assert made.keys() == expected.keys()
    for key, values in expected.items():
        assert made[key].shape == own.tensors[key].shape, key
        np.testing.assert_array_equal(made[key].values(), values, err_msg=key)
        rows = made[key].rows
        np.testing.assert_array_equal(made[key].decode(rows // 3, rows), values[rows // 3 :], err_msg=key)
    assert sum(tensor.bytes for tensor in made.values()) == sum(tensor.bytes for tensor in found.tensors.values())
    assert any(tensor.quantized for tensor in made.values())


def blocks(kind: GGMLQuantizationType, count: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Random codes; their scales may be anything but NaN."""
    raw = np.random.default_rng(kind.value).integers(0, 256, (count, GGML_QUANT_SIZES[kind][1]), np.uint8)
    with np.errstate(all="ignore"):
        good = np.isfinite(dequantize(raw, kind)).all(1)
    raw[~good] = raw[good][0]
    return raw


@pytest.mark.parametrize("kind", [kind for kind in GGMLQuantizationType if types.type_of(kind.name).decodable])
def test_every_type_is_decoded_as_gguf_does(
    kind: GGMLQuantizationType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    block, size = GGML_QUANT_SIZES[kind]
    raw = blocks(kind, 21) if block > 1 or kind.name == "BF16" else np.zeros((21, size), np.uint8) + 17
    monkeypatch.setattr(types, "_PIECE", 4 * block)
    writer = GGUFWriter(tmp_path / "one.gguf", "llama")
    plain = {"F32": "<f4", "F16": "<f2", "F64": "<f8", "I8": "i1", "I16": "<i2", "I32": "<i4", "I64": "<i8"}
    if kind.name in plain:
        writer.add_tensor("one", raw.reshape(-1).view(plain[kind.name]).reshape(7, 3))
    else:
        writer.add_tensor("one", raw.reshape(7, 3 * size), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    (read,) = GGUFReader(tmp_path / "one.gguf").tensors
    expected = (read.data if kind.name in plain else dequantize(read.data, kind)).astype(np.float32)
    found = open_gguf(tmp_path / "one.gguf").tensors["one"]
    assert (found.shape, found.type, found.bytes) == ((7, 3 * block), kind.name, 21 * size)
    np.testing.assert_array_equal(found.values(), expected.reshape(found.shape))
    np.testing.assert_array_equal(found.decode(2, 5), expected.reshape(found.shape)[2:5])


def test_the_head_is_what_gguf_reads(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    said = {"llama.context_length": 64, "llama.rope.freq_base": 5000.0, "tokenizer.chat_template": "{{ x }}"}
    gguf_files.write(folder("llama"), path, values=said, vocabulary=["a", "ß", "▁the"])
    reader, found = GGUFReader(path), open_file(path)
    assert [tensor.name for tensor in reader.tensors] == list(found.tensors)
    assert [tensor.n_bytes for tensor in reader.tensors] == [tensor.bytes for tensor in found.tensors.values()]
    assert found.facts == {
        "architecture": "llama",
        "max_position_embeddings": 64,
        "num_hidden_layers": 2,
        "rope_theta": 5000.0,
    }
    assert found.vocabulary is not None
    assert (found.vocabulary.tokens, found.vocabulary.template) == (("a", "ß", "▁the"), "{{ x }}")
    assert (found.bytes, found.label) == (path.stat().st_size, "GGUF Q8_0")
    assert found.bits.quantized == 8.5 < found.bits.parameters < found.bits.file


def test_version_2_is_read_too(tmp_path: Path) -> None:
    gguf_files.write(folder("llama"), tmp_path / "model.gguf")
    raw = bytearray((tmp_path / "model.gguf").read_bytes())
    raw[4:8] = struct.pack("<I", 2)
    (tmp_path / "two.gguf").write_bytes(raw)
    assert open_file(tmp_path / "two.gguf").tensors == open_file(tmp_path / "model.gguf").tensors


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (lambda raw: b"GGML" + raw[4:], CorruptCheckpoint, "does not begin as a GGUF file"),
        (lambda raw: raw[:4] + struct.pack("<I", 1) + raw[8:], UnsupportedModel, "GGUF version 1"),
        (lambda raw: raw[:4] + struct.pack(">I", 3) + raw[8:], UnsupportedModel, "big-endian"),
        (lambda raw: raw[:8] + struct.pack("<Q", 2**60) + raw[16:], CorruptCheckpoint, "promises"),
        (lambda raw: raw[:16] + struct.pack("<Q", 2**60) + raw[24:], CorruptCheckpoint, "promises"),
        (lambda raw: raw[:24] + struct.pack("<Q", 2**63) + raw[32:], CorruptCheckpoint, "goes on behind"),
        (lambda raw: raw[:-1], CorruptCheckpoint, "truncated or damaged"),
        (lambda raw: raw[:20], CorruptCheckpoint, "truncated or no GGUF file"),
    ],
)
def test_a_file_that_lies_is_refused_in_words(
    change: Callable[[bytes], bytes], error: type[QfundError], words: str, tmp_path: Path
) -> None:
    gguf_files.write(folder("llama"), tmp_path / "model.gguf")
    (tmp_path / "lie.gguf").write_bytes(change((tmp_path / "model.gguf").read_bytes()))
    with pytest.raises(error, match=words):
        open_file(tmp_path / "lie.gguf")


def test_whatever_is_damaged_in_a_head_is_said_or_harmless(tmp_path: Path) -> None:
    gguf_files.write(folder("llama"), tmp_path / "model.gguf", vocabulary=["a", "b"])
    raw, draw = (tmp_path / "model.gguf").read_bytes(), random.Random(0)
    own = checkpoint.read(folder("llama"))
    for _ in range(400):
        damaged = bytearray(raw)
        for _ in range(draw.choice((1, 1, 3))):
            damaged[draw.randrange(1600)] = draw.randrange(256)
        (tmp_path / "lie.gguf").write_bytes(damaged[: draw.choice((len(raw), len(raw), draw.randrange(len(raw))))])
        try:
            found = open_file(tmp_path / "lie.gguf")
            against.notes(own, found)
            for tensor in filled(own, found).packed.values():
                tensor.values()
        except QfundError as error:
            assert error.message and error.remedy


def _in_blocks(name: str) -> bool:
    return name.startswith("blk")


def _outside(name: str) -> bool:
    return not name.startswith("blk")


def test_a_split_file_is_one(tmp_path: Path) -> None:
    whole = gguf_files.write(folder("llama"), tmp_path / "whole.gguf")
    parts = [tmp_path / f"part-0000{number}-of-00002.gguf" for number in (1, 2)]
    for number, path in enumerate(parts):
        split = {"split.count": 2, "split.no": number}
        gguf_files.write(folder("llama"), path, values=split, leave=_in_blocks if not number else _outside)
    found = open_file(parts[1])
    assert found.path == parts[0]
    assert found.bytes == sum(path.stat().st_size for path in parts)
    made = filled(checkpoint.read(folder("llama")), found).packed
    for key, values in whole.items():
        np.testing.assert_array_equal(made[key].values(), values)
    parts[1].rename(tmp_path / "elsewhere.gguf")
    with pytest.raises(CorruptCheckpoint, match=r"one of 2 parts; part-00002-of-00002\.gguf is missing"):
        open_file(parts[0])
    with pytest.raises(CorruptCheckpoint, match="part of a file of 2 parts"):
        open_file(tmp_path / "elsewhere.gguf")


def refused(file: Path, of: str) -> UnsupportedModel:
    with pytest.raises(UnsupportedModel) as caught:
        own, found = checkpoint.read(folder(of)), open_file(file)
        filled(own, found)
        against.notes(own, found)
    assert caught.value.remedy
    return caught.value


def test_another_model_than_the_original_is_refused_by_what_differs(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    gguf_files.write(folder("llama"), path)
    assert "is a llama model, qwen3 is qwen3: another architecture" in refused(path, "qwen3").message
    assert "lacks 1 of the" in refused(path, "llama-untied").message
    gguf_files.write(folder("llama"), path, leave=lambda name: "ffn_up" in name)
    assert "model.layers.0.mlp.up_proj.weight first" in refused(path, "llama").message
    gguf_files.write(folder("llama"), path, values={"llama.attention.head_count": 8})
    assert "says num_attention_heads 8, llama says 4" in refused(path, "llama").message
    gguf_files.write(folder("llama"), path, vocabulary=[f"t{number}" for number in range(VOCABULARY)])
    assert "has another vocabulary than llama: 300 of 300 tokens differ" in refused(path, "llama").message


def test_an_architecture_that_is_not_read_is_named(tmp_path: Path) -> None:
    writer = GGUFWriter(tmp_path / "model.gguf", "rwkv7")
    writer.add_tensor("token_embd.weight", np.zeros((4, 4), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    assert "of the architecture rwkv7" in refused(tmp_path / "model.gguf", "llama").message


def test_types_that_nobody_decodes_are_named_before_anything_is_read(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    gguf_files.write(folder("llama"), path)
    raw = path.read_bytes()
    place = raw.index(b"blk.0.attn_q.weight") + len("blk.0.attn_q.weight") + 4 + 2 * 8
    assert struct.unpack_from("<I", raw, place) == (GGMLQuantizationType.Q8_0,)
    path.write_bytes(raw[:place] + struct.pack("<I", 99) + raw[place + 4 :])
    with pytest.raises(UnsupportedModel, match=r"blk\.0\.attn_q\.weight in type 99"):
        open_file(path)
    writer = GGUFWriter(path, "llama")
    writer.add_tensor("token_embd.weight", np.zeros((4, 292), np.uint8), raw_dtype=GGMLQuantizationType.Q8_K)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    assert open_file(path).tensors["token_embd.weight"].bits == 292 * 8 / 256
    assert "holds token_embd.weight in Q8_K" in refused(path, "llama").message


def test_what_llama_cpp_would_do_otherwise_is_noted(tmp_path: Path) -> None:
    path, given = tmp_path / "model.gguf", folder("llama")
    tokens = [token for token, _ in sorted(byte_level(bos=True).get_vocab().items(), key=lambda pair: pair[1])]
    said = {"llama.rope.freq_base": 1e6, "llama.context_length": 64, "tokenizer.chat_template": "x"}
    gguf_files.write(given, path, values=said, vocabulary=tokens)
    notes = against.notes(checkpoint.read(given), open_file(path))
    assert notes == [
        "The file says that its rope base is 1,000,000, the original says 10,000: both run here with the original's."
    ]


def test_an_output_head_of_its_own_is_taken_where_the_original_ties(tmp_path: Path) -> None:
    given, own = folder("llama"), checkpoint.read(folder("llama"))
    untied = folder("llama-untied")
    gguf_files.write(untied, tmp_path / "model.gguf")
    assert "lm_head.weight" in filled(own, open_file(tmp_path / "model.gguf")).packed
    gguf_files.write(given, tmp_path / "tied.gguf")
    assert "lm_head.weight" not in filled(own, open_file(tmp_path / "tied.gguf")).packed


def test_files_are_named_by_paths_or_on_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gguf_files.write(folder("llama"), tmp_path / "model.gguf")
    assert locating.here(str(tmp_path / "model.gguf")) == (tmp_path / "model.gguf").resolve()
    assert locating.here("owner/name@main:sub/model.gguf") is None
    for nothing in ("./nothing.gguf", "nothing", str(tmp_path / "nothing")):
        with pytest.raises(ModelNotFound):
            locating.here(nothing)
    one = locating.identity([str(tmp_path / "model.gguf")])
    gguf_files.write(folder("llama"), tmp_path / "model.gguf", kind="Q4_0")
    assert locating.identity([str(tmp_path / "model.gguf")]) != one
    monkeypatch.setenv("QFUND_ALLOW", "hub")
    with pytest.raises(QfundError, match="does not open local folders"):
        locating.here(str(tmp_path / "model.gguf"))


def test_tokens_of_pictures_that_a_converter_leaves_out_stay_the_originals(tmp_path: Path) -> None:
    """As Gemma 3's does: 64 of 262,208; here 2 of 300."""
    given, path = folder("gemma3"), tmp_path / "model.gguf"
    whole = gguf_files.write(given, path, kind="Q8_0")
    cut = tmp_path / "cut"
    shutil.copytree(given, cut)
    state = load_file(cut / "model.safetensors")
    name = next(key for key in state if "embed_tokens" in key)
    own = state[name]
    save_file(state | {name: own[:-2].clone()}, cut / "model.safetensors", {"format": "pt"})
    decoded = gguf_files.write(cut, path, kind="Q8_0")
    tensor = filled(checkpoint.read(given), open_file(path)).packed[name]
    assert tensor.shape == own.shape == whole[name].shape
    np.testing.assert_array_equal(tensor.values(), np.concatenate([decoded[name], own[-2:].float().numpy()]))
    for first, last in ((0, 3), (290, 300), (298, 299), (299, 300), (300, 300)):
        np.testing.assert_array_equal(tensor.decode(first, last), tensor.values()[first:last])
    save_file(state | {name: own[:-20].clone()}, cut / "model.safetensors", {"format": "pt"})
    gguf_files.write(cut, path)
    with pytest.raises(UnsupportedModel, match="another vocabulary"):
        filled(checkpoint.read(given), open_file(path))
