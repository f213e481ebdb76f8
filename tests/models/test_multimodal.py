"""Checkpoints that read pictures or sound too, on text alone: streamed as whole, and as transformers runs them."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from qfund.checkpoints import catalog, checkpoint
from qfund.core.errors import UnsupportedModel
from qfund.features.compare.measure.compare import compare
from qfund.features.compare.request.spec import Spec
from qfund.features.memory.measure.fits import fits
from qfund.features.memory.measure.plan import plan
from qfund.features.memory.request.fits import FitsRequest, Workload
from qfund.features.memory.request.plan import PlanRequest
from qfund.features.outputs.measure.generate import generate
from qfund.features.outputs.request.generation import GenerationRequest
from qfund.models import inputs, multimodal, tasks
from qfund.models.skeleton import Skeletons
from qfund.precisions.table import PRECISIONS
from qfund.stream.streamed import Streamed
from qfund.stream.walker import Way
from tests.stream.test_stream import Heard, assert_same, tensors, whole
from tests.tiny import checkpoints
from tests.tiny.checkpoints import TEXT, Tiny, byte_level

TEXT_PART: dict[str, Any] = {
    "vocab_size": 300,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 64,
    "bos_token_id": 1,
    "eos_token_id": 0,
    "pad_token_id": 2,
}
VISION: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "image_size": 32,
    "patch_size": 8,
}
QWEN: dict[str, Any] = {"depth": 1, "num_heads": 4, "patch_size": 8, "hidden_size": 32, "out_hidden_size": 32}
ROPE = {"rope_type": "default", "rope_theta": 10_000.0, "mrope_section": [2, 1, 1]}
IMAGE = {"image_token_id": 299, "video_token_id": 298, "vision_start_token_id": 297, "vision_end_token_id": 296}

#: Architecture → its configuration's class and arguments.
MADE: dict[str, tuple[str, dict[str, Any]]] = {
    "LlavaForConditionalGeneration": (
        "LlavaConfig",
        {
            "text_config": {"model_type": "llama", **TEXT_PART},
            "vision_config": {"model_type": "clip_vision_model", **VISION},
            "image_token_index": 299,
        },
    ),
    "Mistral3ForConditionalGeneration": (
        "Mistral3Config",
        {
            "text_config": {"model_type": "mistral", **TEXT_PART},
            "vision_config": {"model_type": "pixtral", **VISION},
            "image_token_index": 299,
        },
    ),
    "InternVLForConditionalGeneration": (
        "InternVLConfig",
        {
            "text_config": {"model_type": "qwen2", **TEXT_PART},
            "vision_config": {"model_type": "internvl_vision", **VISION, "image_size": [32, 32], "patch_size": [8, 8]},
            "image_token_id": 299,
        },
    ),
    "Idefics3ForConditionalGeneration": (
        "Idefics3Config",
        {"text_config": {"model_type": "llama", **TEXT_PART}, "vision_config": VISION, "image_token_id": 299},
    ),
    "Qwen2VLForConditionalGeneration": (
        "Qwen2VLConfig",
        {
            "text_config": {**TEXT_PART, "rope_parameters": ROPE},
            "vision_config": {"depth": 1, "num_heads": 4, "patch_size": 8, "embed_dim": 32, "hidden_size": 32},
            **IMAGE,
        },
    ),
    "Qwen2_5_VLForConditionalGeneration": (
        "Qwen2_5_VLConfig",
        {
            "text_config": {**TEXT_PART, "rope_parameters": ROPE},
            "vision_config": {**QWEN, "intermediate_size": 48},
            **IMAGE,
        },
    ),
    "Qwen3VLForConditionalGeneration": (
        "Qwen3VLConfig",
        {
            "text_config": {**TEXT_PART, "rope_parameters": ROPE},
            "vision_config": {**QWEN, "intermediate_size": 48, "deepstack_visual_indexes": [0]},
            **IMAGE,
        },
    ),
    "Qwen3VLMoeForConditionalGeneration": (
        "Qwen3VLMoeConfig",
        {
            "text_config": {
                **TEXT_PART,
                "rope_parameters": ROPE,
                "moe_intermediate_size": 24,
                "num_experts": 4,
                "num_experts_per_tok": 2,
            },
            "vision_config": {**QWEN, "intermediate_size": 48, "deepstack_visual_indexes": [0]},
            **IMAGE,
        },
    ),
    "Qwen3_5ForConditionalGeneration": (
        "Qwen3_5Config",
        {
            "text_config": {
                **TEXT_PART,
                "layer_types": ["linear_attention", "full_attention"],
                "linear_num_key_heads": 2,
                "linear_num_value_heads": 4,
                "linear_key_head_dim": 8,
                "linear_value_head_dim": 8,
            },
            "vision_config": {**QWEN, "intermediate_size": 48},
            **IMAGE,
        },
    ),
    "Llama4ForConditionalGeneration": (
        "Llama4Config",
        {
            "text_config": {**TEXT_PART, "intermediate_size_mlp": 48, "num_local_experts": 2, "num_experts_per_tok": 1},
            "vision_config": {
                **VISION,
                "projector_input_dim": 32,
                "projector_output_dim": 32,
                "vision_output_dim": 32,
                "intermediate_size": 128,
            },
            "image_token_index": 299,
        },
    ),
    "Gemma3ForConditionalGeneration": (
        "Gemma3Config",
        {
            "text_config": {**TEXT_PART, "sliding_window": 12, "query_pre_attn_scalar": 8},
            "vision_config": VISION,
            "mm_tokens_per_image": 4,
            "image_token_index": 299,
        },
    ),
    "Qwen2AudioForConditionalGeneration": (
        "Qwen2AudioConfig",
        {
            "text_config": {"model_type": "qwen2", **TEXT_PART},
            "audio_config": {
                "d_model": 32,
                "encoder_layers": 1,
                "encoder_attention_heads": 4,
                "encoder_ffn_dim": 48,
                "num_mel_bins": 16,
                "max_source_positions": 32,
            },
            "audio_token_index": 299,
        },
    ),
}


def made(architecture: str, folder: Path) -> Any:
    """Write the tiny random checkpoint; its model."""
    kind, arguments = MADE[architecture]
    tiny = Tiny(architecture, lambda: getattr(transformers, kind)(**arguments), byte_level)
    model = checkpoints.build(tiny)
    checkpoints.write(model, tiny, folder)
    return model


@pytest.fixture(scope="module", params=sorted(MADE))
def opened(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Any]]:
    folder = tmp_path_factory.mktemp("multimodal") / "model"
    yield folder, made(request.param, folder)


def perplexity(model: Any, context: int) -> float:
    """Chunk by chunk, by transformers' own forward."""
    ids, losses = byte_level()(TEXT)["input_ids"], list[float]()
    for start in range(0, len(ids), context):
        row = torch.tensor([ids[start : start + context]])
        with torch.no_grad():
            logits = model(input_ids=row, use_cache=False).logits[0, :-1].double().log_softmax(-1)
        losses += (-logits.gather(1, row[0, 1:, None])[:, 0]).tolist()
    return math.exp(sum(losses) / len(losses))


def test_streamed_as_whole_and_as_transformers_runs_it(opened: tuple[Path, Any]) -> None:
    folder, model = opened
    found = checkpoint.read(folder)
    task = tasks.task_of(found)
    spec = Spec(str(folder), precisions=("bf16", "int8"), text=TEXT, context=48)
    batches = [batch.arguments for batch in inputs.prepare(spec, catalog.locate(str(folder)), found, task).batches]
    heard, names = Heard(), ("fp32", "bf16", "int8", "int4")
    Streamed(found, [Way(name, PRECISIONS[name]) for name in names]).run(batches, heard)
    for name in names:
        for number, expected in enumerate(whole(found, name, batches)):
            assert_same(tensors(heard.outputs[number][name]), expected)
    report = compare(spec)
    assert report.whole is None
    truth = perplexity(model, 48)
    assert report.reference.fidelity["perplexity"].value == pytest.approx(truth, rel=1e-5)


def test_what_the_rest_weighs_is_said(opened: tuple[Path, Any]) -> None:
    """By counting the parameters of everything but transformers' decoder, head and token embeddings."""
    folder, model = opened
    found = checkpoint.read(folder)
    parts = multimodal.parts_beside_text(found)
    beside = sum(tensor.numel() for part in parts for tensor in model.get_submodule(part).parameters())
    inside = {*model.get_decoder().parameters(), *model.get_input_embeddings().parameters()}
    assert beside == sum(each.numel() for each in model.parameters() if not any(each is one for one in inside)) - sum(
        each.numel() for each in model.get_output_embeddings().parameters() if each not in inside
    )
    said = multimodal.sentence(parts, {"FP32": Skeletons(found).footprint(PRECISIONS["fp32"]).tensors})
    assert all(part in said for part in parts[:3]) and "in FP32." in said
    sized = plan(PlanRequest(str(folder), precisions=("bf16", "int8")), lambda *_: None)
    assert any("no part in the outputs" in note and "matrices converted" in note for note in sized.notes)
    answer = fits(FitsRequest(str(folder), Workload(budget=2**30, context=64), ("bf16", "int4")))
    assert any("no part in the outputs" in note for note in answer.notes)
    assert all(row.source == "traced" for row in answer.shape.activations)


@pytest.mark.parametrize("architecture", ["LlavaForConditionalGeneration", "Qwen2VLForConditionalGeneration"])
def test_it_writes_as_transformers_does(architecture: str, tmp_path: Path) -> None:
    model = made(architecture, tmp_path / "model")
    prompt = "The quick brown"
    found = generate(
        GenerationRequest(str(tmp_path / "model"), precisions=("bf16",), prompts=(prompt,), max_new_tokens=8)
    )
    ids = torch.tensor([byte_level()(prompt)["input_ids"]])
    expected = model.generate(input_ids=ids, max_new_tokens=8, do_sample=False)[0, ids.shape[1] :].tolist()
    assert list(found.examples[0].reference.tokens) == expected


@pytest.mark.parametrize(
    ("kind", "architecture", "why"),
    [
        ("Blip2Config", "Blip2ForConditionalGeneration", "no text without pictures"),
        ("Kosmos2Config", "Kosmos2ForConditionalGeneration", "no text without pictures"),
        ("IdeficsConfig", "IdeficsForVisionText2Text", "no text without pictures"),
        ("PaliGemmaConfig", "PaliGemmaForConditionalGeneration", "depend on later tokens"),
        ("Pix2StructConfig", "Pix2StructForConditionalGeneration", "is not supported"),
    ],
)
def test_those_that_cannot_are_refused_by_name(kind: str, architecture: str, why: str, tmp_path: Path) -> None:
    getattr(transformers, kind)(architectures=[architecture]).save_pretrained(tmp_path)
    found = checkpoint.Checkpoint(tmp_path, {"architectures": [architecture]}, {}, "", None)
    with pytest.raises(UnsupportedModel, match=f"{architecture} .*{why}"):
        tasks.task_of(found)
    assert multimodal.parts_beside_text(found) == ()
