"""Tiny random checkpoints with tokenizers, one a kind of model, as ``save_pretrained`` writes them.

``CHECKPOINTS`` names them all; ``folder`` is where one lies (written once in a process), ``make`` writes one elsewhere.
Every parameter is moved away from its initial value, so that biases, norms and padding rows count, and so that logits
differ enough between tokens for a comparison to mean something.
"""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedModel, PreTrainedTokenizerFast

TEXT = """The quick brown fox jumps over the lazy dog, and the dog does not mind at all. A number is a count of things:
one, two, three. Return the number of items in a list; if the list is empty, return zero. Numbers that are too large
for the format overflow, and numbers that are too small vanish. "Precision" is not accuracy (said the fox)."""

VOCABULARY = 300
WIDTH = 32


def byte_level(bos: bool = False) -> PreTrainedTokenizerFast:
    """Byte-level BPE as GPT-2 has it; with ``bos``, every text starts with ``<s>``, as Llama's do."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<s>", "<pad>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(TEXT.splitlines(), trainer)
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    if bos:
        start = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", tokenizer.token_to_id("<s>"))])
        tokenizer.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=False), start])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|endoftext|>", bos_token="<s>")


def word_piece() -> PreTrainedTokenizerFast:
    """BERT's: lower case, ``[CLS] … [SEP]``, ``[MASK]``, ``[PAD]`` at 0."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    trainer = trainers.WordPieceTrainer(vocab_size=VOCABULARY, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator(TEXT.splitlines(), trainer)
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
    )


def roberta() -> PreTrainedTokenizerFast:
    """Byte-level BPE between ``<s>`` and ``</s>``, padding at 1 as RoBERTa's positions need it. BART has it too."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(TEXT.splitlines(), trainer)
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        cls_token="<s>",
        sep_token="</s>",
        mask_token="<mask>",
    )


def t5() -> PreTrainedTokenizerFast:
    """Unigram pieces with ``</s>`` after every text, padding at 0."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    special = ["<pad>", "</s>", "<unk>"]
    trainer = trainers.UnigramTrainer(
        vocab_size=VOCABULARY, special_tokens=special, unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator(TEXT.splitlines(), trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>")


def llama_like() -> PreTrainedTokenizerFast:
    return byte_level(bos=True)


@dataclass(frozen=True, slots=True)
class Tiny:
    """How a checkpoint is made.

    Attributes:
        architecture: the class in transformers.
        config: the model's configuration, or a function that makes the whole model.
        tokenizer: makes its tokenizer; None for a model that reads no text.
        shard: largest file, for a checkpoint in parts.
        dtype: that the weights are stored in.
        processor: prepares its pictures; None leaves the folder without.
    """

    architecture: str
    config: Callable[[], Any]
    tokenizer: Callable[[], Any] | None = None
    shard: str | None = None
    dtype: torch.dtype = torch.float32
    processor: Callable[[], Any] | None = None


def _config(kind: str, **changes: Any) -> Callable[[], Any]:
    """A configuration of transformers, small."""
    return lambda: getattr(transformers, kind)(**changes)


_DECODER = {
    "vocab_size": VOCABULARY,
    "hidden_size": WIDTH,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
    "bos_token_id": 1,
    "eos_token_id": 0,
    "pad_token_id": 2,
}
_GROUPED = {**_DECODER, "num_key_value_heads": 2, "head_dim": 8}
_BERT = {
    "vocab_size": VOCABULARY,
    "hidden_size": WIDTH,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 40,
    "type_vocab_size": 2,
    "pad_token_id": 0,
}
_ROBERTA = {**_BERT, "max_position_embeddings": 34, "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2}
_GPT2 = {
    "vocab_size": VOCABULARY,
    "n_embd": WIDTH,
    "n_layer": 2,
    "n_head": 4,
    "n_positions": 48,
    "bos_token_id": 0,
    "eos_token_id": 0,
}
_T5 = {
    "vocab_size": VOCABULARY,
    "d_model": WIDTH,
    "d_kv": 8,
    "d_ff": 48,
    "num_layers": 2,
    "num_heads": 4,
    "decoder_start_token_id": 0,
}
_BART = {
    "vocab_size": VOCABULARY,
    "d_model": WIDTH,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 48,
    "max_position_embeddings": 40,
    "decoder_start_token_id": 2,
    "forced_eos_token_id": None,
}
_VIT = {
    "hidden_size": WIDTH,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "image_size": 32,
    "patch_size": 8,
}
_BLIP_TEXT = {
    "vocab_size": VOCABULARY,
    "hidden_size": WIDTH,
    "encoder_hidden_size": WIDTH,
    "intermediate_size": 48,
    "projection_dim": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 32,
    "pad_token_id": 0,
    "bos_token_id": 4,
    "sep_token_id": 3,
    "eos_token_id": 3,
}


def _processor() -> Any:
    return transformers.ViTImageProcessorPil(
        size={"height": 32, "width": 32}, image_mean=[0.2, 0.4, 0.6], image_std=[0.5, 0.25, 0.125]
    )


def _blip() -> Any:
    return transformers.BlipConfig(text_config=_BLIP_TEXT, vision_config=_VIT, projection_dim=16)


def _vision_encoder_decoder() -> Any:
    encoder = _config("ViTConfig", **_VIT)()
    decoder = _config("GPT2Config", **_GPT2, is_decoder=True, add_cross_attention=True)()
    config: Any = transformers.VisionEncoderDecoderConfig.from_encoder_decoder_configs(encoder, decoder)
    config.decoder_start_token_id, config.pad_token_id = 0, 2
    return config


CHECKPOINTS: dict[str, Tiny] = {
    "llama": Tiny("LlamaForCausalLM", _config("LlamaConfig", **_GROUPED, tie_word_embeddings=True), llama_like),
    "llama-untied": Tiny("LlamaForCausalLM", _config("LlamaConfig", **_GROUPED, tie_word_embeddings=False), byte_level),
    "llama-sharded": Tiny(
        "LlamaForCausalLM", _config("LlamaConfig", **_GROUPED, tie_word_embeddings=False), byte_level, "40KB"
    ),
    "llama-stored-bf16": Tiny(
        "LlamaForCausalLM",
        _config("LlamaConfig", **_GROUPED, tie_word_embeddings=True),
        llama_like,
        dtype=torch.bfloat16,
    ),
    "mistral": Tiny("MistralForCausalLM", _config("MistralConfig", **_GROUPED, sliding_window=12), llama_like),
    "qwen3": Tiny("Qwen3ForCausalLM", _config("Qwen3Config", **_GROUPED, tie_word_embeddings=True), byte_level),
    "gemma2": Tiny(
        "Gemma2ForCausalLM", _config("Gemma2Config", **_GROUPED, sliding_window=12, query_pre_attn_scalar=8), llama_like
    ),
    "gemma3": Tiny(
        "Gemma3ForCausalLM",
        _config("Gemma3TextConfig", **_GROUPED, sliding_window=12, query_pre_attn_scalar=8),
        llama_like,
    ),
    "phi": Tiny("PhiForCausalLM", _config("PhiConfig", **_DECODER), byte_level),
    "gpt2": Tiny("GPT2LMHeadModel", _config("GPT2Config", **_GPT2), byte_level),
    "gpt-neox": Tiny("GPTNeoXForCausalLM", _config("GPTNeoXConfig", **_DECODER), byte_level),
    "opt": Tiny(
        "OPTForCausalLM",
        _config(
            "OPTConfig",
            **{k: v for k, v in _DECODER.items() if k != "intermediate_size"},
            ffn_dim=48,
            word_embed_proj_dim=WIDTH,
        ),
        llama_like,
    ),
    "bloom": Tiny(
        "BloomForCausalLM",
        _config("BloomConfig", vocab_size=VOCABULARY, hidden_size=WIDTH, n_layer=2, n_head=4),
        byte_level,
    ),
    "falcon": Tiny(
        "FalconForCausalLM",
        _config("FalconConfig", vocab_size=VOCABULARY, hidden_size=WIDTH, num_hidden_layers=2, num_attention_heads=4),
        byte_level,
    ),
    "mixtral": Tiny(
        "MixtralForCausalLM",
        _config("MixtralConfig", **_GROUPED, num_local_experts=4, num_experts_per_tok=2, sliding_window=None),
        llama_like,
    ),
    "mamba": Tiny(
        "MambaForCausalLM",
        _config("MambaConfig", vocab_size=VOCABULARY, hidden_size=WIDTH, num_hidden_layers=2, state_size=4),
        byte_level,
    ),
    "bert-decoder": Tiny("BertLMHeadModel", _config("BertConfig", **_BERT, is_decoder=True), word_piece),
    "t5": Tiny("T5ForConditionalGeneration", _config("T5Config", **_T5), t5),
    "bart": Tiny("BartForConditionalGeneration", _config("BartConfig", **_BART), roberta),
    "bert-masked": Tiny("BertForMaskedLM", _config("BertConfig", **_BERT), word_piece),
    "roberta-masked": Tiny("RobertaForMaskedLM", _config("RobertaConfig", **_ROBERTA), roberta),
    "bert-classifier": Tiny("BertForSequenceClassification", _config("BertConfig", **_BERT, num_labels=5), word_piece),
    "gpt2-classifier": Tiny("GPT2ForSequenceClassification", _config("GPT2Config", **_GPT2, num_labels=5), byte_level),
    "bart-classifier": Tiny("BartForSequenceClassification", _config("BartConfig", **_BART, num_labels=5), roberta),
    "distilbert-tokens": Tiny(
        "DistilBertForTokenClassification",
        _config(
            "DistilBertConfig",
            vocab_size=VOCABULARY,
            dim=WIDTH,
            hidden_dim=48,
            n_layers=2,
            n_heads=4,
            max_position_embeddings=40,
            num_labels=7,
        ),
        word_piece,
    ),
    "bert-encoder": Tiny("BertModel", _config("BertConfig", **_BERT), word_piece),
    "t5-encoder": Tiny("T5EncoderModel", _config("T5Config", **_T5), t5),
    "bart-encoder": Tiny("BartModel", _config("BartConfig", **_BART), roberta),
    "vit-classifier": Tiny("ViTForImageClassification", _config("ViTConfig", **_VIT, num_labels=5)),
    "resnet-classifier": Tiny(
        "ResNetForImageClassification",
        _config(
            "ResNetConfig", embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic", num_labels=5
        ),
    ),
    "convnext-classifier": Tiny(
        "ConvNextForImageClassification",
        _config("ConvNextConfig", hidden_sizes=[8, 16], depths=[1, 1], num_stages=2, image_size=32, num_labels=5),
    ),
    "resnet-encoder": Tiny(
        "ResNetModel",
        _config("ResNetConfig", embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic"),
    ),
    "vit-encoder": Tiny("ViTModel", _config("ViTConfig", **_VIT), processor=_processor),
    "blip": Tiny("BlipForConditionalGeneration", _blip, word_piece),
    "vision-gpt2": Tiny("VisionEncoderDecoderModel", _vision_encoder_decoder, byte_level),
}


def make(name: str, folder: Path) -> Path:
    """Write the checkpoint of that name to a folder."""
    tiny = CHECKPOINTS[name]
    write(build(tiny), tiny, folder)
    return folder


def write(model: PreTrainedModel, tiny: Tiny, folder: Path) -> None:
    model.save_pretrained(folder, max_shard_size=tiny.shard or "1GB")
    for part in (tiny.tokenizer, tiny.processor):
        if part:
            part().save_pretrained(folder)


_written: tempfile.TemporaryDirectory[str] | None = None


@cache
def folder(name: str) -> Path:
    """The checkpoint of that name, written once in a process; to be left as it is."""
    global _written
    _written = _written or tempfile.TemporaryDirectory(prefix="qfund-checkpoints-")
    return make(name, Path(_written.name) / name)


def build(tiny: Tiny) -> PreTrainedModel:
    """The random model, always the same one."""
    torch.manual_seed(0)
    model: Any = getattr(transformers, tiny.architecture)._from_config(tiny.config(), dtype=torch.float32)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.2 if parameter.dim() > 1 else 0.05)
    moved: PreTrainedModel = model.to(tiny.dtype).eval()
    return moved
