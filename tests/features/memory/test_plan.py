"""Plans: headers by hand, footprints to the byte beside loaded models, and a Hub that keeps its weights."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from benchmarks.plan import seventy_billion
from qfund.checkpoints import checkpoint
from qfund.commandline.parser import parse
from qfund.core.errors import (
    CorruptCheckpoint,
    InvalidSpec,
    NothingConverted,
    QfundError,
    UnknownName,
    UnsupportedModel,
)
from qfund.features.memory.measure.plan import plan as exact
from qfund.features.memory.request import plan
from qfund.features.memory.request.plan import Plan, PlanRequest, headers
from qfund.models.skeleton import Skeleton, predict
from qfund.precisions.precision import STORED
from qfund.precisions.table import PRECISIONS
from tests.checkpoints.fake_hub import COMMIT, FakeHub
from tests.checkpoints.wild.packed import folders
from tests.checkpoints.wild.packed.formats import CASES
from tests.tiny import checkpoints, planned

ROOT = Path(__file__).resolve().parents[3]


def silently(phase: str, share: float) -> None:
    assert phase and 0 <= share <= 1


def plan_of(name: str, *precisions: str, also: tuple[str, ...] = ()) -> Plan:
    return exact(PlanRequest(str(planned.folder(name)), precisions, also), silently)


@pytest.mark.parametrize("name", [*planned.ALONE, *planned.AWKWARD])
def test_a_loaded_model_stores_what_was_planned(name: str) -> None:
    found = plan_of(name, *planned.CASTS, *planned.QUANTIZED)
    assert len(found.entries) == len(planned.CASTS) + len(planned.QUANTIZED)
    errors = {
        entry.precision: entry.predicted_bytes - planned.loaded_bytes(name, entry.precision) for entry in found.entries
    }
    assert set(errors.values()) == {0}, errors


@pytest.mark.parametrize("name", ["llama", "gpt2", "t5", "mixtral", "resnet-encoder"])
def test_a_skeleton_that_was_asked_before_says_the_same(name: str) -> None:
    """``tests/models/test_footprint.py`` holds fresh ones beside loaded models, row by row."""
    found = checkpoint.read(planned.folder(name))
    skeletons = {dtype: Skeleton(found, getattr(torch, dtype)) for dtype in ("float32", "bfloat16", "float16")}
    for number, row in enumerate(PRECISIONS.values()):
        also = ((), ("head", "embeddings"))[(number + len(name)) % 2]  # by turns, and on another model the other one
        if row.family == STORED or row.dtype not in skeletons:
            continue
        try:
            expected = predict(found, row, also)
        except NothingConverted:
            with pytest.raises(NothingConverted):
                skeletons[row.dtype].footprint(row, also)
        else:
            assert skeletons[row.dtype].footprint(row, also).tensors == expected.tensors, row.name


@pytest.mark.parametrize("name", ["llama", "t5", "mixtral", "blip", "deepseek-v3", "mamba2", "whisper"])
def test_every_split_sums_to_the_footprint(name: str) -> None:
    found = plan_of(name)
    assert found.entries[0].precision == "fp32" and found.entries[0].ratio == 1
    assert [entry.precision for entry in found.entries[1:]] == [
        row.name
        for row in PRECISIONS.values()
        if row.name != "fp32" and row.family != STORED and row.device is None and not row.as_run
    ]
    for entry in found.entries:
        assert list(entry.parts) == list(plan.PARTS)
        assert sum(entry.parts.values()) == entry.predicted_bytes == sum(entry.module_bytes)
        assert sum(share.bytes for share in entry.dtypes.values()) == entry.predicted_bytes
        assert sum(share.parameters for share in entry.dtypes.values()) == found.parameters
        assert len(entry.module_bytes) == len(entry.module_dtypes) == len(found.modules)
        assert entry.ratio == entry.predicted_bytes / found.fp32_bytes
        assert (
            (entry.bits_per_weight is None)
            == (entry.parts["quantised"] == 0)
            == (PRECISIONS[entry.precision].quantizer is None)
        )
    assert sum(module.parameters for module in found.modules) == found.parameters


def test_parts_by_hand() -> None:
    """Two layers of width 32, four heads of which two hold keys and values, feed-forward 48, 300 tokens, head tied."""
    found = plan_of("llama", "bf16", "int8", "int4_bf16")
    linear = 2 * (2 * 32 * 32 + 2 * 16 * 32 + 3 * 48 * 32)
    rows = 2 * (32 + 16 + 16 + 32 + 48 + 48 + 32)
    groups = 2 * ((32 + 16 + 16 + 32 + 48 + 48) * 1 + 32 * 2)  # of 32 inputs, or of 48
    rotary = 2 * 4 * 4  # two buffers of four frequencies in fp32
    nothing = dict.fromkeys(plan.PARTS, 0) | {"buffers": rotary}
    by_name = {entry.precision: entry for entry in found.entries}
    assert by_name["bf16"].parts == nothing | {"embeddings": 2 * 300 * 32, "norms": 2 * 5 * 32, "layers": 2 * linear}
    assert by_name["int8"].parts == nothing | {
        "embeddings": 4 * 300 * 32, "norms": 4 * 5 * 32, "quantised": linear, "scales": 4 * rows,
    }  # fmt: skip
    assert by_name["int4_bf16"].parts == nothing | {
        "embeddings": 2 * 300 * 32, "norms": 2 * 5 * 32, "quantised": linear // 2, "scales": 2 * groups,
    }  # fmt: skip
    assert by_name["int8"].bits_per_weight == 8 * (linear + 4 * rows) / linear
    assert found.parameters == linear + 300 * 32 + 5 * 32
    assert found.fp32_bytes == 4 * found.parameters + rotary
    modules = {module.name: size for module, size in zip(found.modules, by_name["int8"].module_bytes, strict=True)}
    assert modules["model.layers.1.mlp.down_proj"] == 32 * 48 + 4 * 32
    assert modules["lm_head"] == 0 and modules["model.embed_tokens"] == 4 * 300 * 32


def test_also_converts_embeddings_and_head() -> None:
    plain, also = (plan_of("llama-untied", "int8", also=names).entries[0] for names in ((), ("head", "embeddings")))
    assert plain.parts["head"] == plain.parts["embeddings"] == 4 * 300 * 32
    assert also.parts["head"] == also.parts["embeddings"] == 0
    assert also.parts["quantised"] == plain.parts["quantised"] + 2 * 300 * 32
    assert also.parts["scales"] == plain.parts["scales"] + 2 * 300 * 4


def test_what_is_kept_in_fp32_and_what_is_stored_in_vain_is_said() -> None:
    assert plan_of("mt5", "fp16").notes[0].startswith("FP16: transformers keeps 4 tensors in FP32, encoder.block.0.")
    assert plan_of("mt5", "bf16").notes == ()
    assert "38,400 bytes on disk" in plan_of("stored-tied-head", "fp32").notes[0]


def test_a_precision_that_converts_nothing_is_left_out_or_refused() -> None:
    found = plan_of("resnet-encoder", "int8", "int8_dynamic")
    assert [entry.precision for entry in found.entries] == ["int8"]
    assert [row.precision for row in found.not_planned] == ["int8_dynamic"]
    with pytest.raises(NothingConverted):
        plan_of("resnet-encoder", "int8_dynamic")


def test_an_architecture_that_transformers_does_not_export(tmp_path: Path) -> None:
    config = json.loads((planned.folder("whisper") / "config.json").read_text()) | {"architectures": ["WhisperEncoder"]}
    (tmp_path / "config.json").write_text(json.dumps(config))
    save_file({"conv1.bias": torch.zeros(32)}, tmp_path / "model.safetensors")
    found = exact(PlanRequest(str(tmp_path), ("fp32",)), silently)
    whole = plan_of("whisper", "fp32")
    encoder = [module for module in whole.modules if module.name.startswith("model.encoder.")]
    assert not hasattr(transformers, "WhisperEncoder")
    assert found.parameters == sum(module.parameters for module in encoder) > 0


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"architectures": ["TrapForCausalLM"], "auto_map": {"AutoModel": "trap.Trap"}}, "TrapForCausalLM"),
        ({"architectures": ["Trainer"]}, "Trainer"),
        ({"model_type": "nothing"}, "cannot read this config.json"),
        ({"hidden_size": "wide"}, "config.json"),
        ({"num_hidden_layers": 10**9}, "num_hidden_layers = 1000000000"),
        ({"num_attention_heads": 0}, "config.json"),
        ({"quantization_config": {"quant_method": "gptq", "bits": 4}}, "quantization_config is left over"),
    ],
)
def test_a_config_that_makes_no_sense_is_refused(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    made = checkpoints.make("llama", tmp_path / "model")
    edit(made / "config.json", changes)
    start = time.process_time()
    with pytest.raises(QfundError) as caught:
        exact(PlanRequest(str(made)), silently)
    assert said in str(caught.value) and time.process_time() - start < 5


def test_a_config_of_another_model_is_refused(tmp_path: Path) -> None:
    made = checkpoints.make("llama", tmp_path / "model")
    edit(made / "config.json", {"vocab_size": 301})
    with pytest.raises(CorruptCheckpoint, match=r"embed_tokens\.weight \[301, 32\], the checkpoint holds \[300, 32\]"):
        exact(PlanRequest(str(made)), silently)


def test_a_model_of_a_billion_billion_weights_is_planned_or_refused_at_once(tmp_path: Path) -> None:
    made = checkpoints.make("llama", tmp_path / "model")
    (made / "model.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")
    edit(made / "config.json", {"vocab_size": 10**12, "hidden_size": 10**6})
    start = time.process_time()
    try:
        assert exact(PlanRequest(str(made), ("fp32",)), silently).parameters > 10**18
    except UnsupportedModel as error:
        assert "cannot be built" in error.message
    assert time.process_time() - start < 5


def edit(path: Path, changes: dict[str, Any]) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_requests() -> None:
    found = plan.checked(PlanRequest(" dummy ", ("int8", "fp32", "int8"), ("embeddings", "head"), ""))
    assert found == PlanRequest("dummy", ("fp32", "int8"), ("head", "embeddings"), None)
    assert msgspec.json.decode(msgspec.json.encode(found), type=PlanRequest) == found
    assert plan.checked(found) == found
    assert "tf32" not in plan.checked(PlanRequest("dummy")).precisions
    for wrong, error in (
        (PlanRequest(" "), InvalidSpec),
        (PlanRequest("dummy", ("int9",)), UnknownName),
        (PlanRequest("dummy", also=("norms",)), UnknownName),
        (PlanRequest("no-such-model"), UnknownName),
        (PlanRequest("dummy", revision="v1"), InvalidSpec),
        (PlanRequest("dummy", ("stored",)), UnsupportedModel),
    ):
        with pytest.raises(error):
            exact(wrong, silently)


def test_results_are_plain_data() -> None:
    found = plan_of("llama", "int8")
    assert msgspec.json.decode(msgspec.json.encode(found), type=Plan) == found
    told = headers(PlanRequest("pydoc-llama"), silently)
    assert msgspec.json.decode(msgspec.json.encode(told), type=plan.HeaderPlan) == told


def test_headers_by_hand(tmp_path: Path) -> None:
    tensors = {
        "embed.weight": torch.zeros(10, 4, dtype=torch.bfloat16),
        "layer.weight": torch.zeros(4, 4),
        "layer.bias": torch.zeros(4),
        "layer.steps": torch.zeros(3, dtype=torch.int64),
        "lm_head.weight": torch.zeros(10, 4, dtype=torch.bfloat16),
    }
    save_file(tensors, tmp_path / "model.safetensors")
    config = {"architectures": ["LlamaForCausalLM"], "tie_word_embeddings": True}
    (tmp_path / "config.json").write_text(json.dumps(config))
    found = headers(PlanRequest(str(tmp_path)), silently)
    assert found.stored_bytes == 80 + 64 + 16 + 24 + 80 and found.elements == 40 + 16 + 4 + 3 + 40
    assert {name: (share.parameters, share.bytes) for name, share in found.dtypes.items()} == {
        "BF16": (80, 160), "F32": (20, 80), "I64": (3, 24),
    }  # fmt: skip
    assert found.cast_bytes == {"fp32": 424, "fp64": 824, "bf16": 224, "fp16": 224}
    modules = {module.name: (module.dtype, module.elements, module.bytes) for module in found.modules}
    assert modules == {"embed": ("BF16", 40, 80), "layer": ("F32", 23, 104), "lm_head": ("BF16", 40, 80)}
    assert "not buffers" in found.notes[0] and "lm_head.weight is stored (80 bytes)" in found.notes[1]


def test_headers_size_casts_only() -> None:
    assert headers(PlanRequest("dummy", ("bf16",)), silently).cast_bytes.keys() == {"bf16"}
    with pytest.raises(InvalidSpec, match="INT8"):
        headers(PlanRequest("dummy", ("bf16", "int8")), silently)


def test_headers_of_a_quantized_checkpoint_are_as_stored(tmp_path: Path) -> None:
    made = checkpoints.make("llama", tmp_path / "model")
    edit(made / "config.json", {"quantization_config": {"quant_method": "gptq", "bits": 4}})
    codes = {"model.layers.0.mlp.up_proj.qweight": torch.zeros(4, 4, dtype=torch.uint8)}
    save_file(load_file(made / "model.safetensors") | codes, made / "model.safetensors", {"format": "pt"})
    found = headers(PlanRequest(str(made)), silently)
    assert found.cast_bytes == {} and "GPTQ 4 bits" in found.notes[-1] and found.stored_bytes > 0


def test_seventy_billion_weights_are_not_read(tmp_path: Path) -> None:
    """141 GB of holes: only headers can be read in this time."""
    made = seventy_billion(tmp_path)
    start = time.process_time()
    told = headers(PlanRequest(str(made)), silently)
    assert time.process_time() - start < 2
    weights = 2 * 128256 * 8192 + 8192 + 80 * (2 * 8192 + 2 * 8192**2 + 2 * 1024 * 8192 + 3 * 8192 * 28672)
    assert told.elements == weights == 70_553_706_496
    assert told.stored_bytes == told.cast_bytes["bf16"] == 2 * weights
    found = exact(PlanRequest(str(made), ("fp32", "bf16", "int8_bf16")), silently)
    assert found.parameters == weights and found.stored_bytes == 2 * weights
    rotary = 2 * 64 * 4
    rows = 80 * (3 * 8192 + 2 * 1024 + 2 * 28672)
    linear = weights - 2 * 128256 * 8192 - 161 * 8192
    assert [entry.predicted_bytes for entry in found.entries] == [
        4 * weights + rotary, 2 * weights + rotary, 2 * weights - linear + 4 * rows + rotary,
    ]  # fmt: skip
    assert time.process_time() - start < 20


def run(*arguments: str) -> None:
    options = parse(["plan", *arguments])
    options.run(options)


def test_the_table_of_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    run("pydoc-llama", "--precision", "bf16,INT8", "int4", "--also", "head")
    text = capsys.readouterr().out
    assert re.search(r"^pydoc-llama \(LlamaForCausalLM\): 4,066,560 parameters, 15.5 MiB on disk$", text, re.MULTILINE)
    assert re.search(r"^BF16 +8,133,248 +7.76 MiB +0.500 +–", text, re.MULTILINE)
    assert [line.split()[0] for line in text.splitlines() if re.match("BF16|INT", line)] == ["BF16", "INT8", "INT4"]


def test_the_documents_of_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    run("pydoc-llama", "--precision", "bf16", "--json")
    found = msgspec.json.decode(capsys.readouterr().out, type=Plan)
    assert [(entry.precision, entry.predicted_bytes) for entry in found.entries] == [("bf16", 8_133_248)]
    run("pydoc-llama", "--headers", "--json")
    assert json.loads(capsys.readouterr().out)["cast_bytes"]["bf16"] == 2 * 4_066_560
    run("pydoc-llama", "--headers")
    assert "F32        4,066,560  16,266,240  15.5 MiB" in capsys.readouterr().out


ASK = """
import sys, msgspec
from qfund.core.errors import QfundError
from qfund.features.memory.request.plan import PlanRequest, headers
step, revision = headers, sys.argv[3] if len(sys.argv) > 3 else None
if sys.argv[1] == "exact":
    from qfund.features.memory.measure.plan import plan as step
try:
    found = step(PlanRequest(sys.argv[2], ("bf16",), revision=revision), lambda *_: None)
except QfundError as error:
    sys.exit(str(error))
print(msgspec.json.encode(found).decode())
print(*(sys.modules.keys() & {"torch", "transformers", "pandas"}), file=sys.stderr)
"""


def ask(url: str, cache: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    # The client reads its address and cache when it is imported: each run is a process of its own.
    environment = os.environ | {
        "HF_ENDPOINT": url,
        "HF_HOME": str(cache),
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "QFUND_ALLOW": "hub",
        "PYTHONPATH": str(ROOT),
    }
    command = [sys.executable, "-c", ASK, *arguments]
    return subprocess.run(command, env=environment | more, capture_output=True, text=True, check=False)


def header_ends(folder: Path) -> dict[str, int]:
    """Where the weights of each file begin."""
    return {path.name: 8 + int.from_bytes(path.read_bytes()[:8], "little") for path in folder.glob("*.safetensors")}


def test_the_hub_sends_headers_only(tmp_path: Path) -> None:
    files = planned.folder("llama-sharded")
    ends = header_ends(files)
    assert len(ends) > 2
    with FakeHub(files, "someone/llama").serving() as hub:
        told = ask(hub.url, tmp_path / "cache", "headers", "someone/llama")
        assert told.returncode == 0, told.stderr
        assert told.stderr.strip() == "", "headers need neither torch nor pandas"
        found = ask(hub.url, tmp_path / "cache", "exact", "someone/llama", "main")
        assert found.returncode == 0, found.stderr
    weights = [(name, start, end) for name, start, end in hub.sent if name.endswith(".safetensors")]
    assert {name for name, *_ in weights} == set(ends)
    assert all(end <= ends[name] for name, _, end in weights), "no byte of a weight was sent"
    assert {name for name, *_ in hub.sent} - set(ends) == {"config.json", "model.safetensors.index.json"}
    assert not list((tmp_path / "cache").rglob("*.safetensors"))
    here = headers(PlanRequest(str(files), ("bf16",)), silently)
    there = msgspec.json.decode(told.stdout, type=plan.HeaderPlan)
    assert (there.revision, there.model_id, there.cast_bytes) == (COMMIT, here.model_id, here.cast_bytes)
    planned_ = msgspec.json.decode(found.stdout, type=Plan)
    assert planned_.entries == plan_of("llama-sharded", "bf16").entries


def test_a_single_file_of_the_hub(tmp_path: Path) -> None:
    with FakeHub(planned.folder("bert-encoder"), "someone/bert").serving() as hub:
        told = ask(hub.url, tmp_path / "cache", "headers", "someone/bert")
    assert told.returncode == 0, told.stderr
    end = header_ends(planned.folder("bert-encoder"))["model.safetensors"]
    assert [row for row in hub.sent if row[0] == "model.safetensors"] == [
        ("model.safetensors", 0, 8), ("model.safetensors", 8, end),
    ]  # fmt: skip


def test_what_the_hub_does_not_give(tmp_path: Path) -> None:
    files, cache = checkpoints.make("llama-sharded", tmp_path / "files"), tmp_path / "cache"
    with FakeHub(files, "someone/llama").serving() as hub:
        nothing = ask(hub.url, cache, "headers", "someone/else")
        revision = ask(hub.url, cache, "headers", "someone/llama", "v9")
        offline = ask(hub.url, cache, "headers", "someone/llama", HF_HUB_OFFLINE="1")
        first = sorted(files.glob("*.safetensors"))[0]
        first.rename(tmp_path / "away")
        shard = ask(hub.url, cache, "headers", "someone/llama")
    (tmp_path / "away").rename(first)
    with FakeHub(files, "someone/llama", gated=True).serving() as hub:
        gated = ask(hub.url, cache, "headers", "someone/llama")
    with FakeHub(files, "someone/llama", ranges=False).serving() as hub:
        whole = ask(hub.url, cache, "headers", "someone/llama")
    away = ask(hub.url, cache, "headers", "someone/llama")  # the server is gone
    for done, said in (
        (nothing, "has no model someone/else"),
        (revision, "no revision 'v9'"),
        (offline, "offline"),
        (shard, f"lacks {first.name}"),
        (gated, "is gated"),
        (whole, "ignores ranges"),
        (away, "could not be fetched"),
    ):
        assert done.returncode == 1 and said in done.stderr and done.stdout == "", done.stderr
        assert "Traceback" not in done.stderr


def test_the_documented_table_names_every_model_and_no_error() -> None:
    rows = re.findall(r"^\| (\S+) \| (\w+) \| [\d,]+ \| (.+) \|$", (ROOT / "docs/plan.md").read_text(), re.MULTILINE)
    assert [name for name, *_ in rows] == list(planned.NAMES)
    for name, class_, errors in rows:
        assert class_ == planned.architecture(name)
        assert set(errors.split(" | ")) <= {"0", "–"}, name


def test_a_tensor_in_another_shape_is_named(tmp_path: Path) -> None:
    """As many elements, other rows: from_pretrained refuses it, so nobody should believe that it fits."""
    shutil.copytree(planned.folder("llama"), tmp_path, dirs_exist_ok=True)
    stored = load_file(tmp_path / "model.safetensors")
    name = "model.layers.0.mlp.up_proj.weight"
    stored[name] = stored[name].T.contiguous()
    save_file(stored, tmp_path / "model.safetensors", {"format": "pt"})
    found = exact(PlanRequest(str(tmp_path), ("bf16",)), silently)
    assert any(note.startswith(f"{name} is stored as [32, 48], the model has [48, 32]") for note in found.notes)
    whole = exact(PlanRequest(str(planned.folder("llama")), ("bf16",)), silently)
    assert not any("is stored as" in note for note in whole.notes)


def test_what_no_module_of_a_quantised_checkpoint_reads_is_said(tmp_path: Path) -> None:
    """One tensor under a name that is no module, another under a module that holds none itself."""
    folder = tmp_path / "model"
    folders.write("llama-untied", CASES["ct-int4"], folder)
    held = load_file(folder / "model.safetensors")
    more = {"model.layers.2q_proj.weight_packed": torch.zeros(4, 8, dtype=torch.int32), "extra": torch.zeros(8)}
    usual = exact(PlanRequest(str(folder), ("stored",)), silently)
    save_file(held | more, folder / "model.safetensors", {"format": "pt"})
    found = exact(PlanRequest(str(folder), ("stored",)), silently)
    assert found.entries[0].predicted_bytes == usual.entries[0].predicted_bytes
    assert any("2 stored tensors (160 B" in note and "read by no module" in note for note in found.notes)
    assert not any("read by no module" in note for note in usual.notes)
