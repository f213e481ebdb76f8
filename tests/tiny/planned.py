"""More tiny models, for plans alone: kinds that ``compare`` does not run, and checkpoints that are awkward to size.

``PLANNED`` is the whole table: these and ``tests.tiny.checkpoints.CHECKPOINTS``; ``folder`` is where one lies.
"""

import json
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import load_file, save_file

from qfund.precisions.quantizers.conversion import quantize_model
from qfund.precisions.table import PRECISIONS
from tests.tiny import checkpoints
from tests.tiny.checkpoints import CHECKPOINTS, VOCABULARY, WIDTH, Tiny

_library: Any = transformers  # whose configurations are annotated too narrowly
_DECODER: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": WIDTH,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "bos_token_id": 1,
    "eos_token_id": 0,
    "pad_token_id": 2,
}
_ENCODER: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": WIDTH,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 40,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "cls_token_id": 1,
    "sep_token_id": 2,
}
_SEQ2SEQ: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "d_model": WIDTH,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 48,
    "max_position_embeddings": 40,
    "pad_token_id": 1,
    "bos_token_id": 0,
    "eos_token_id": 2,
    "decoder_start_token_id": 2,
    "forced_eos_token_id": None,
}
_SOUND: dict[str, Any] = {
    "vocab_size": 40,
    "hidden_size": WIDTH,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "conv_dim": (16, 16),
    "conv_kernel": (10, 3),
    "conv_stride": (5, 2),
    "num_feat_extract_layers": 2,
    "num_conv_pos_embeddings": 8,
    "num_conv_pos_embedding_groups": 2,
}
_SIGHT: dict[str, Any] = {
    "hidden_size": WIDTH,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "image_size": 32,
    "patch_size": 8,
}
_READ: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": WIDTH,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 40,
    "bos_token_id": 0,
    "eos_token_id": 2,
    "pad_token_id": 1,
}
_EXPERTS: dict[str, Any] = {"num_experts_per_tok": 2, "moe_intermediate_size": 16}


def _tiny(architecture: str, config: str, **changes: Any) -> Tiny:
    return Tiny(architecture, lambda: getattr(_library, config)(**changes))


def _both(architecture: str, config: str, **changes: Any) -> Tiny:
    """Pictures and text."""
    return _tiny(architecture, config, text_config=_READ, vision_config=_SIGHT, **changes)


def _llava() -> Any:
    text = _library.LlamaConfig(**_DECODER)
    vision = _library.CLIPVisionConfig(**_SIGHT)
    return _library.LlavaConfig(vision_config=vision, text_config=text, image_token_index=3)


def _blip_2() -> Any:
    text = _library.OPTConfig(
        **{name: value for name, value in _DECODER.items() if name != "intermediate_size"},
        ffn_dim=48,
        word_embed_proj_dim=WIDTH,
    )
    former = {**_READ, "encoder_hidden_size": WIDTH, "cross_attention_frequency": 1}
    return _library.Blip2Config(
        vision_config=_SIGHT, qformer_config=former, text_config=text, num_query_tokens=4, image_token_index=3
    )


def _gemma_3() -> Any:
    text = _library.Gemma3TextConfig(**_DECODER, head_dim=8, sliding_window=12, query_pre_attn_scalar=8)
    return _library.Gemma3Config(
        text_config=text, vision_config={**_SIGHT, "model_type": "siglip_vision_model"}, mm_tokens_per_image=4
    )


ALONE: dict[str, Tiny] = {
    "whisper": _tiny(
        "WhisperForConditionalGeneration",
        "WhisperConfig",
        **{
            **{name: value for name, value in _SEQ2SEQ.items() if name != "max_position_embeddings"},
            "num_mel_bins": 8,
            "max_source_positions": 20,
            "max_target_positions": 24,
        },
    ),
    "wav2vec2": _tiny("Wav2Vec2ForCTC", "Wav2Vec2Config", **_SOUND),
    "hubert": _tiny("HubertForCTC", "HubertConfig", **_SOUND),
    "wavlm": _tiny("WavLMForCTC", "WavLMConfig", **_SOUND),
    "audio-spectrogram": _tiny(
        "ASTForAudioClassification",
        "ASTConfig",
        **{name: value for name, value in _SIGHT.items() if name != "image_size"},
        max_length=24,
        num_mel_bins=16,
    ),
    "speecht5": _tiny(
        "SpeechT5ForSpeechToText",
        "SpeechT5Config",
        **{
            **{
                name: value
                for name, value in _SOUND.items()
                if name not in ("num_hidden_layers", "num_attention_heads", "intermediate_size")
            },
            "encoder_layers": 2,
            "decoder_layers": 2,
            "encoder_attention_heads": 4,
            "decoder_attention_heads": 4,
            "encoder_ffn_dim": 48,
            "decoder_ffn_dim": 48,
            "positional_dropout": 0.0,
        },
    ),
    "clip": _both("CLIPModel", "CLIPConfig", projection_dim=16),
    "siglip": _both("SiglipModel", "SiglipConfig"),
    "llava": Tiny("LlavaForConditionalGeneration", _llava),
    "blip-2": Tiny("Blip2ForConditionalGeneration", _blip_2),
    "gemma3-pictures": Tiny("Gemma3ForConditionalGeneration", _gemma_3),
    "mamba2": _tiny(
        "Mamba2ForCausalLM",
        "Mamba2Config",
        vocab_size=VOCABULARY,
        hidden_size=WIDTH,
        num_hidden_layers=2,
        state_size=4,
        num_heads=8,
        head_dim=8,
        n_groups=2,
        expand=2,
    ),
    "falcon-mamba": _tiny(
        "FalconMambaForCausalLM",
        "FalconMambaConfig",
        vocab_size=VOCABULARY,
        hidden_size=WIDTH,
        num_hidden_layers=2,
        state_size=4,
    ),
    "jamba": _tiny(
        "JambaForCausalLM",
        "JambaConfig",
        **_DECODER,
        num_experts=2,
        attn_layer_period=2,
        attn_layer_offset=1,
        expert_layer_period=2,
        expert_layer_offset=1,
        mamba_d_state=4,
        use_mamba_kernels=False,
    ),
    "recurrent-gemma": _tiny(
        "RecurrentGemmaForCausalLM",
        "RecurrentGemmaConfig",
        **{name: value for name, value in _DECODER.items() if name != "max_position_embeddings"},
        lru_width=WIDTH,
        attention_window_size=8,
    ),
    "qwen2-moe": _tiny(
        "Qwen2MoeForCausalLM",
        "Qwen2MoeConfig",
        **_DECODER,
        **_EXPERTS,
        num_experts=4,
        shared_expert_intermediate_size=24,
    ),
    "qwen3-moe": _tiny("Qwen3MoeForCausalLM", "Qwen3MoeConfig", **_DECODER, **_EXPERTS, num_experts=4, head_dim=8),
    "olmoe": _tiny("OlmoeForCausalLM", "OlmoeConfig", **_DECODER, num_experts=4, num_experts_per_tok=2),
    "deepseek-v3": _tiny(
        "DeepseekV3ForCausalLM",
        "DeepseekV3Config",
        **{
            **_DECODER,
            **_EXPERTS,
            "num_key_value_heads": 4,
            "n_routed_experts": 4,
            "n_group": 2,
            "topk_group": 1,
            "n_shared_experts": 1,
            "q_lora_rank": 16,
            "kv_lora_rank": 8,
            "qk_rope_head_dim": 4,
            "qk_nope_head_dim": 4,
            "v_head_dim": 8,
            "first_k_dense_replace": 1,
        },
    ),
    "gpt-oss": _tiny(
        "GptOssForCausalLM",
        "GptOssConfig",
        **_DECODER,
        head_dim=8,
        num_local_experts=4,
        num_experts_per_tok=2,
        sliding_window=12,
    ),
    "modernbert": _tiny("ModernBertForMaskedLM", "ModernBertConfig", **_ENCODER),
    "albert": _tiny("AlbertForMaskedLM", "AlbertConfig", **_READ, embedding_size=16),
    "deberta-v2": _tiny(
        "DebertaV2ForMaskedLM", "DebertaV2Config", **_READ, relative_attention=True, pos_att_type=["p2c", "c2p"]
    ),
    "electra": _tiny("ElectraForPreTraining", "ElectraConfig", **_READ, embedding_size=16),
    "xlnet": _tiny(
        "XLNetLMHeadModel", "XLNetConfig", vocab_size=VOCABULARY, d_model=WIDTH, n_layer=2, n_head=4, d_inner=48
    ),
    "gptj": _tiny(
        "GPTJForCausalLM",
        "GPTJConfig",
        vocab_size=VOCABULARY,
        n_embd=WIDTH,
        n_layer=2,
        n_head=4,
        n_positions=48,
        rotary_dim=4,
        bos_token_id=0,
        eos_token_id=0,
    ),
    "codegen": _tiny(
        "CodeGenForCausalLM",
        "CodeGenConfig",
        vocab_size=VOCABULARY,
        n_embd=WIDTH,
        n_layer=2,
        n_head=4,
        n_positions=48,
        n_ctx=48,
        rotary_dim=4,
        bos_token_id=0,
        eos_token_id=0,
    ),
    "smollm3": _tiny("SmolLM3ForCausalLM", "SmolLM3Config", **_DECODER),
    "phi3": _tiny("Phi3ForCausalLM", "Phi3Config", **_DECODER),
    "gemma": _tiny("GemmaForCausalLM", "GemmaConfig", **_DECODER, head_dim=8),
    "marian": _tiny("MarianMTModel", "MarianConfig", **_SEQ2SEQ),
    "pegasus": _tiny("PegasusForConditionalGeneration", "PegasusConfig", **_SEQ2SEQ),
    "led": _tiny(
        "LEDForConditionalGeneration",
        "LEDConfig",
        **{
            **{name: value for name, value in _SEQ2SEQ.items() if name != "max_position_embeddings"},
            "max_encoder_position_embeddings": 40,
            "max_decoder_position_embeddings": 40,
            "attention_window": 8,
        },
    ),
    "mt5": _tiny(
        "MT5ForConditionalGeneration",
        "MT5Config",
        vocab_size=VOCABULARY,
        d_model=WIDTH,
        d_kv=8,
        d_ff=48,
        num_layers=2,
        num_heads=4,
        decoder_start_token_id=0,
    ),
    "swin": _tiny(
        "SwinForImageClassification",
        "SwinConfig",
        image_size=32,
        patch_size=4,
        embed_dim=16,
        depths=[1, 1],
        num_heads=[2, 2],
        window_size=4,
        num_labels=5,
    ),
    "segformer": _tiny(
        "SegformerForSemanticSegmentation",
        "SegformerConfig",
        hidden_sizes=[8, 16],
        depths=[1, 1],
        num_encoder_blocks=2,
        sr_ratios=[2, 1],
        patch_sizes=[7, 3],
        strides=[4, 2],
        num_attention_heads=[1, 2],
        mlp_ratios=[2, 2],
        decoder_hidden_size=16,
        num_labels=5,
    ),
    "dinov2": _tiny(
        "Dinov2Model", "Dinov2Config", **{name: value for name, value in _SIGHT.items() if name != "intermediate_size"}
    ),
}

#: What the files are like, apart from the architecture.
AWKWARD = {
    "mixed-dtypes": "Llama whose norms are stored in FP32 and all else in BF16",
    "stored-tied-head": "GPT-2 whose tied head is stored too",
    "stored-buffers": "GPT-2 with its attention masks, as OpenAI stored them",
    "new-head": "a BERT encoder whose config names a classifier",
}
NAMES = (*CHECKPOINTS, *ALONE, *AWKWARD)
#: Precisions that stand for all: the casts, and one of every way to store codes.
CASTS = ("fp32", "bf16", "fp16")
QUANTIZED = ("int8", "int4", "int4_asym_bf16", "nf4", "nvfp4", "mxfp4_bf16")


def loaded_bytes(name: str, precision: str) -> int:
    """What a model that was really loaded stores: transformers' count of a cast, and of a quantised model every
    parameter and buffer, each memory once."""
    row = PRECISIONS[precision]
    # The encoder alone, where the file holds nothing of the head.
    class_: Any = transformers.BertModel if name == "new-head" else getattr(transformers, architecture(name))
    model = class_.from_pretrained(folder(name), dtype=getattr(torch, row.dtype))
    if row.quantizer is None:
        return int(model.get_memory_footprint())
    quantize_model(model, row)
    tensors = [tensor for tensor in (*model.parameters(), *model.buffers()) if tensor.numel()]
    return sum({tensor.data_ptr(): tensor.numel() * tensor.element_size() for tensor in tensors}.values())


def architecture(name: str) -> str:
    """The class that a folder's config names."""
    return str(json.loads((folder(name) / "config.json").read_text())["architectures"][0])


_written: tempfile.TemporaryDirectory[str] | None = None


@cache
def folder(name: str) -> Path:
    """The checkpoint of that name, written once in a process; to be left as it is."""
    global _written
    if name in CHECKPOINTS:
        return checkpoints.folder(name)
    _written = _written or tempfile.TemporaryDirectory(prefix="qfund-planned-")
    made = Path(_written.name) / name
    if name in ALONE:
        checkpoints.write(checkpoints.build(ALONE[name]), ALONE[name], made)
        return made
    base = {"mixed-dtypes": "llama-untied", "new-head": "bert-encoder"}.get(name, "gpt2")
    checkpoints.make(base, made)
    tensors = load_file(made / "model.safetensors")
    if name == "mixed-dtypes":
        tensors = {key: tensor if "norm" in key else tensor.bfloat16() for key, tensor in tensors.items()}
    elif name == "stored-tied-head":
        tensors["lm_head.weight"] = tensors["transformer.wte.weight"].clone()
    elif name == "stored-buffers":
        mask = torch.ones(1, 1, 48, 48).tril()
        tensors |= {f"transformer.h.{layer}.attn.bias": mask.clone() for layer in range(2)}
    else:
        config = json.loads((made / "config.json").read_text()) | {"architectures": ["BertForSequenceClassification"]}
        (made / "config.json").write_text(json.dumps(config))
    save_file(tensors, made / "model.safetensors", metadata={"format": "pt"})
    return made
