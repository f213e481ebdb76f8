"""A config.json as transformers reads it, less what is not the model's: dtype and attention, which qfund chooses."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import GenerationConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from qfund.checkpoints.pointers import must_be_no_pointer
from qfund.core.errors import UnsupportedModel

_ATTENTION = ("attn_implementation", "_attn_implementation", "_attn_implementation_internal")
_DTYPE = ("dtype", "torch_dtype")
#: What compiles, spreads, adapts or runs a model, whose name some tools save in place of the model's.
WRAPPER = re.compile(r"OptimizedModule|Peft\w*|\w*DataParallel|(ORT|OV)Model\w*")
#: Entries that count something a model is built of.
_SIZE = re.compile(
    r"(n|num)_(hidden_|encoder_|decoder_)?(layers?|heads?)|num_(attention|key_value)_heads|(encoder|decoder)_"
    r"(layers|attention_heads|ffn_dim)|hidden_size|intermediate_size|vocab_size|max_position_embeddings|n_positions|"
    r"n_embd|d_model|d_ff|d_kv|head_dim|num_local_experts|num_experts|n_routed_experts|num_beams"
)


def read(folder: Path, config: Mapping[str, Any]) -> Any:
    """transformers' configuration object. Raises whatever transformers raises."""
    given = instead(config)
    return (
        given["config"]
        if given
        else transformers.AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    )


def instead(config: Mapping[str, Any]) -> dict[str, Any]:
    """For what reads config.json itself: the object to take in its place, where it says what qfund leaves out."""
    if not any(_left_out(part) for part in _parts(config)):
        return {}
    clean = _without(config)
    return {"config": transformers.CONFIG_MAPPING[str(clean["model_type"])].from_dict(clean)}


def must_make_sense(config: Mapping[str, Any]) -> None:
    """
    Raises:
        UnsupportedModel: a size is negative or no number.
    """
    for part in _parts(config):
        for key, value in part.items():
            wrong = isinstance(value, str | bool) or (isinstance(value, int | float) and value < 0)
            if _SIZE.fullmatch(key) and wrong:
                raise UnsupportedModel(
                    f"config.json says {key} = {repr(value)[:100]}, which is no size of a model.",
                    "Check the file, or download it again.",
                )


#: Of generation_config.json, what takes part in decoding: numbers, and tokens, of which there may be several.
_NUMBERS = re.compile(r"num_\w+|\w*penalty|max_\w+|min_\w+|temperature|top_[kp]|typical_p|\w*_size|\w*_decay_factor")
_TOKENS = re.compile(r"\w+_token_id|\w*suppress_tokens")


def generation(folder: Path) -> GenerationConfig:
    """The settings in generation_config.json, transformers' own where there is none.

    Raises:
        UnsupportedModel: it cannot be read, or a number in it is none.
        CorruptCheckpoint: it is a Git LFS pointer.
    """
    path = folder / "generation_config.json"
    if not path.is_file():
        return GenerationConfig()
    must_be_no_pointer([path])
    try:
        found = GenerationConfig.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # transformers raises whatever its checks raise
        raise UnsupportedModel(f"generation_config.json cannot be read: {error}", "Check the file.") from error
    for name, value in vars(found).items():
        several = value if isinstance(value, list | tuple) else [value]
        numbers = _NUMBERS.fullmatch(name) and isinstance(value, str | list | dict)
        tokens = _TOKENS.fullmatch(name) and not all(one is None or isinstance(one, int) for one in several)
        if numbers or tokens:
            raise UnsupportedModel(
                f"generation_config.json says {name} = {repr(value)[:100]}, which is no number.",
                "Check the file, or download it again.",
            )
    return found


def why_not_built(config: Mapping[str, Any]) -> str | None:
    """What in a config.json an architecture is known to fail on; None where nothing is found."""
    for part in _parts(config):
        settings = [part[key] for key in ("rope_scaling", "rope_parameters") if isinstance(part.get(key), dict)]
        settings += [inner for one in settings for inner in one.values() if isinstance(inner, dict)]  # by kind of layer
        for one in settings:
            kind = one.get("rope_type") or one.get("type")
            if kind is not None and kind not in ROPE_INIT_FUNCTIONS and kind != "default":
                known = ", ".join(sorted({"default", *ROPE_INIT_FUNCTIONS}))
                return f"its rope type {str(kind)[:100]!r} is not one that transformers knows ({known})."
    return None


def wrapped(architecture: str) -> str | None:
    """The class of transformers in the name of what wrapped it: of ``FSDPLlamaForCausalLM`` the last 16 letters."""
    starts = (place for place in range(1, len(architecture)) if architecture[place].isupper())
    names = (architecture[place:] for place in starts)
    return next((name for name in names if "For" in name[1:] and hasattr(transformers, name)), None)


def _parts(config: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """It, and the configs of a model's parts in it."""
    yield config
    for value in config.values():
        if isinstance(value, dict) and ("model_type" in value or "hidden_size" in value):
            yield from _parts(value)


def _left_out(part: Mapping[str, Any]) -> list[str]:
    attention = [key for key in _ATTENTION if part.get(key) is not None]
    return attention + [key for key in _DTYPE if key in part and not _is_dtype(part[key])]


def _is_dtype(value: Any) -> bool:
    return value is None or isinstance(getattr(torch, value, None) if isinstance(value, str) else value, torch.dtype)


def _without(part: Mapping[str, Any]) -> dict[str, Any]:
    dropped = _left_out(part)
    return {
        key: _without(value) if isinstance(value, dict) else value for key, value in part.items() if key not in dropped
    }
