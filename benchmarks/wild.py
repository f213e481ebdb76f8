"""Published formats: what is decoded alike, how fast, and in how much memory: ``python -m benchmarks.wild [PART …]``.

- ``matrix``: format × architecture of tiny models: ``=`` where every tensor is bit for bit what the format's own
  decoder makes of it (what the tests hold it to), else why it is refused.
- ``decode``: millions of weights a second of ours and of ``gguf``'s own decoder, in turns on the same bytes.
- ``bytes``: files that llama-quantize made of the shipped model, in the folder ``QFUND_GGUF``: foretold and written.
- ``memory``: a random Llama of 0.3 billion weights beside a Q4_K file and an int4 folder of its shapes: seconds and the
  kernel's mark of resident memory of comparisons with them, and of transformers loading each whole and reading the same
  tokens, each in a process of its own.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

ARCHITECTURES = ("llama", "llama-untied", "mistral", "qwen3", "gemma2", "gemma3", "phi", "gpt2", "mixtral", "bloom")
TYPES = ("F16", "BF16", "Q8_0", "Q5_1", "Q5_0", "Q4_1", "Q4_0")
TEXT = "one two three four five six seven eight nine ten eleven twelve thirteen "


def matrix() -> None:
    """A row a format."""
    from tests.checkpoints.wild.packed.formats import CASES

    print(f"| format | {' | '.join(ARCHITECTURES)} |\n|---|{'---|' * len(ARCHITECTURES)}")
    why: dict[str, int] = {}
    for name in (*TYPES, *CASES):
        cells = []
        for architecture in ARCHITECTURES:
            with tempfile.TemporaryDirectory() as folder:
                said = _alike(name, architecture, Path(folder))
            cells.append(said if said == "=" else f"({why.setdefault(said, len(why) + 1)})")
        print(f"| {name} | {' | '.join(cells)} |", flush=True)
    print(*(f"({number}) {said}" for said, number in why.items()), sep="\n")


def _alike(name: str, architecture: str, where: Path) -> str:
    from qfund.checkpoints import checkpoint
    from qfund.checkpoints.wild.filling import filled
    from qfund.checkpoints.wild.table import open_file
    from qfund.core.errors import QfundError
    from tests.checkpoints.wild.packed import folders
    from tests.checkpoints.wild.packed.formats import CASES
    from tests.tiny import gguf_files
    from tests.tiny.checkpoints import folder

    original = folder(architecture)
    try:
        if name in TYPES:
            path = where / "model.gguf"
            values: Any = gguf_files.write(original, path, kind=name)
        else:
            path = where / "made"
            values = {key: value.numpy() for key, value in folders.write(architecture, CASES[name], path).items()}
        made = filled(checkpoint.read(original), open_file(path)).packed
    except QfundError as error:
        return error.message
    if not any(tensor.quantized or name in TYPES[:2] for tensor in made.values()):
        return "no matrix of it fits the format"
    off = [key for key, tensor in made.items() if not np.array_equal(tensor.values(), values[key], equal_nan=True)]
    return f"differs: {off[0]}" if off else "="


def decode() -> None:
    """A row a type of GGUF files, of 16 million weights."""
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
    from gguf.quants import dequantize

    from qfund.checkpoints.wild.gguf import types

    print("| type | qfund, M weights/s | gguf | ratio |\n|---|---|---|---|")
    for kind in GGMLQuantizationType:
        block, size = GGML_QUANT_SIZES.get(kind, (1, 1))
        if block == 1 or not types.type_of(kind.name).decodable:
            continue
        raw = np.random.default_rng(0).integers(0, 128, (4096, 4096 // block * size), np.uint8)
        ways: tuple[Callable[[], Any], ...] = (partial(types.decode, raw, kind.name), partial(dequantize, raw, kind))
        spent: tuple[list[float], ...] = ([], [])
        with np.errstate(all="ignore"):
            for way, times in (*zip(ways, spent, strict=True),) * 3:
                started = time.perf_counter()
                way()
                times.append(time.perf_counter() - started)
        ours, theirs = (4096**2 / 1e6 / min(times) for times in spent)
        print(f"| {kind.name} | {ours:.0f} | {theirs:.0f} | {ours / theirs:.2f} |", flush=True)


def sizes() -> None:
    """A row a file."""
    from gguf import GGUFReader

    from qfund.checkpoints import catalog, checkpoint
    from qfund.models import skeleton
    from qfund.precisions.table import PRECISIONS

    rows = {"Q4_0": "q4_0_mix", "Q2_K": "q2_k_mix", "IQ4_XS": "iq4_xs_mix"}
    found = checkpoint.read(catalog.CATALOG["pydoc-llama"].folder)
    print("| file | bytes of its tensors | foretold | off |\n|---|---|---|---|")
    for path in sorted(Path(os.environ["QFUND_GGUF"]).glob("*.gguf")):
        kind = path.stem.rpartition("-")[2]
        row = PRECISIONS[rows.get(kind, kind.lower())]
        written = sum(int(tensor.n_bytes) for tensor in GGUFReader(path).tensors)
        foretold = skeleton.predict(found, row)
        count = foretold.bytes - sum(one.bytes for one in foretold.tensors if one.kind == "buffer")
        print(f"| {path.name} | {written:,} | {count:,} | {count - written:+,} |")


#: Of the model of ``memory``.
HIDDEN, INNER, LAYERS, HEADS, SHARED, WORDS = 1024, 2816, 24, 16, 8, 32_000
_SHAPES = {
    "self_attn.q_proj": (HIDDEN, HIDDEN),
    "self_attn.k_proj": (HIDDEN // HEADS * SHARED, HIDDEN),
    "self_attn.v_proj": (HIDDEN // HEADS * SHARED, HIDDEN),
    "self_attn.o_proj": (HIDDEN, HIDDEN),
    "mlp.gate_proj": (INNER, HIDDEN),
    "mlp.up_proj": (INNER, HIDDEN),
    "mlp.down_proj": (HIDDEN, INNER),
}


def _make(where: Path) -> tuple[Path, Path, Path]:
    """The original in FP16, a GGUF file of it in Q4_K and a folder in int4 of compressed-tensors. All layers are alike,
    so that each matrix is quantised once."""
    import json
    import shutil

    import torch
    from gguf import GGMLQuantizationType, GGUFWriter
    from safetensors.torch import save_file

    from qfund.precisions.quantizers.ggml.blocks import Blocks
    from tests.checkpoints.wild.packed.formats import CASES
    from tests.tiny.checkpoints import folder

    torch.manual_seed(0)
    config = json.loads((folder("llama") / "config.json").read_text()) | {
        "hidden_size": HIDDEN,
        "intermediate_size": INNER,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": SHARED,
        "head_dim": HIDDEN // HEADS,
        "vocab_size": WORDS,
        "max_position_embeddings": 512,
        "tie_word_embeddings": True,
        "dtype": "float16",
    }
    one = {name: (torch.randn(shape) * 0.02).half() for name, shape in _SHAPES.items()}
    table, norm = (torch.randn(WORDS, HIDDEN) * 0.02).half(), torch.ones(HIDDEN).half()
    norms = {f"model.layers.{n}.{name}.weight": norm for n in range(LAYERS) for name in _NORMS}
    plain = {"model.embed_tokens.weight": table, "model.norm.weight": norm, **norms}
    linear = {f"model.layers.{n}.{name}": name for n in range(LAYERS) for name in _SHAPES}
    case = CASES["ct-int4"]
    packed = {name: case.write(*shape).parts for name, shape in _SHAPES.items()}
    for path, settings, tensors in (
        (where / "original", {}, {f"{place}.weight": one[name] for place, name in linear.items()}),
        (
            where / "int4",
            {case.key: case.settings},
            {place + kind: part for place, name in linear.items() for kind, part in packed[name].items()},
        ),
    ):
        shutil.copytree(folder("llama"), path, ignore=shutil.ignore_patterns("*.safetensors"))
        (path / "config.json").write_text(json.dumps(config | settings))
        save_file({key: value.clone() for key, value in (plain | tensors).items()}, path / "model.safetensors")
    writer = GGUFWriter(where / "q4_k.gguf", "llama")
    writer.add_block_count(LAYERS)
    writer.add_context_length(512)
    writer.add_embedding_length(HIDDEN)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(SHARED)
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(WORDS)
    names = dict(
        zip(_SHAPES, ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"), strict=True)
    )
    coded = {name: Blocks("Q4_K").quantize(weight)["data"].numpy() for name, weight in one.items()}
    for name, heads in (("self_attn.q_proj", HEADS), ("self_attn.k_proj", SHARED)):
        rows = coded[name]
        coded[name] = np.ascontiguousarray(rows.reshape(heads, 2, -1, rows.shape[1]).swapaxes(1, 2).reshape(rows.shape))
    q4, q6 = GGMLQuantizationType.Q4_K, GGMLQuantizationType.Q6_K
    writer.add_tensor("token_embd.weight", Blocks("Q6_K").quantize(table)["data"].numpy(), raw_dtype=q6)
    writer.add_tensor("output_norm.weight", norm.float().numpy())
    for number in range(LAYERS):
        for name in ("attn_norm", "ffn_norm"):
            writer.add_tensor(f"blk.{number}.{name}.weight", norm.float().numpy())
        for name, called in names.items():
            writer.add_tensor(f"blk.{number}.{called}.weight", coded[name], raw_dtype=q4)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return where / "original", where / "q4_k.gguf", where / "int4"


_NORMS = ("input_layernorm", "post_attention_layernorm")
_MARK = r"""
import re, pathlib
print("MARK", re.search(r"VmHWM:\s+(\d+)", pathlib.Path("/proc/self/status").read_text())[1])
"""
_OURS = """
import qfund
qfund.compare({original!r}, (), reference='fp32', files={files!r}, text={text!r}, max_tokens=64, context=64)
"""
_THEIRS = """
import torch, transformers
tokenizer = transformers.AutoTokenizer.from_pretrained({original!r})
ids = tokenizer({text!r}, return_tensors='pt')['input_ids'][:, :64]
model = transformers.AutoModelForCausalLM.from_pretrained({folder!r}, dtype=torch.float32{more})
with torch.inference_mode():
    model(ids)
"""


def memory() -> None:
    """A row a way."""
    with tempfile.TemporaryDirectory() as folder:
        original, gguf, int4 = map(str, _make(Path(folder)))
        text = TEXT * 40
        print("| | seconds | of a processor | resident at most, MiB |\n|---|---|---|---|")
        _timed("imports of qfund.compare alone", "import qfund\nqfund.compare('dummy', 'bf16', max_tokens=8)")
        for name, files in (("all three", [gguf, int4]), ("with the GGUF file", [gguf]), ("with the folder", [int4])):
            _timed(f"qfund, streamed: {name}", _OURS.format(original=original, files=files, text=text))
        for name, place, more in (
            ("the original", original, ""),
            ("the GGUF file", folder, ", gguf_file='q4_k.gguf'"),
            ("the folder", int4, ""),
        ):
            _timed(
                f"transformers, whole: {name}", _THEIRS.format(original=original, text=text, folder=place, more=more)
            )


def _timed(name: str, code: str) -> None:
    started, before = time.perf_counter(), sum(os.times()[2:4])
    # Nothing that an earlier run kept is used.
    environment = os.environ | {"QFUND_CACHE_GIB": "0", "MALLOC_MMAP_THRESHOLD_": str(128 << 10)}
    done = subprocess.run(
        [sys.executable, "-c", code + _MARK], capture_output=True, text=True, check=False, env=environment
    )
    spent, processor = time.perf_counter() - started, sum(os.times()[2:4]) - before
    mark = next((line.split()[1] for line in done.stdout.splitlines() if line.startswith("MARK")), None)
    said = f"{int(mark) / 1024:,.0f}" if mark else (done.stderr.strip().splitlines() or ["failed"])[-1][:160]
    print(f"| {name} | {spent:.1f} | {processor:.1f} | {said} |", flush=True)


PARTS = {"matrix": matrix, "decode": decode, "bytes": sizes, "memory": memory}

if __name__ == "__main__":
    for part in sys.argv[1:] or PARTS:
        PARTS[part]()
        print()
