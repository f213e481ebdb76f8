"""What a GGUF file says of how positions are scaled, beside the original's config: for llama.cpp and its like alone,
since everything runs here with the original's."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

from qfund.checkpoints.wild.quantized_file import QuantizedFile

#: Of the pairs of a head, by what each frequency is divided: one tensor, or those of long and short contexts.
_FREQUENCIES, _LONG, _SHORT = "rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight"
#: Kinds of scaling that a head names; the others are factors in tensors.
_NAMED = ("linear", "yarn")
_NEAR = 1e-4


def notes(config: Mapping[str, Any], file: QuantizedFile) -> Iterator[str]:
    """Sentences about what differs.

    Args:
        config: of the original's text model, flat.
    """
    if file.format != "gguf":
        return
    scaling = _scaling(config)
    kind = str(scaling.get("rope_type", scaling.get("type", "default")))
    expected = factors(config)
    for name in (_FREQUENCIES, _LONG, _SHORT):
        here, there = file.tensors.get(name), expected.get(name)
        if here is None and there is not None:
            yield (
                f"The file lacks the factors of its rotary frequencies ({name}), which the original's scaling of "
                f"positions ({kind}) asks for: llama.cpp runs it without them."
            )
        elif here is not None and there is None:
            yield f"The file has factors for its rotary frequencies ({name}); the original asks for none."
        elif here is not None and there is not None:
            found = here.values().reshape(-1).tolist()
            if len(found) != len(there) or not all(
                math.isclose(one, other, rel_tol=_NEAR) for one, other in zip(found, there, strict=True)
            ):
                yield f"The factors of its rotary frequencies ({name}) are others than the original's config gives."
    said, factor = file.facts.get("rope_type"), file.facts.get("rope_factor")
    wanted = kind if kind in _NAMED else None
    said = said if said in _NAMED else None
    if said != wanted:
        yield (
            f"The file scales positions by the method {said or 'none'}, the original by {wanted or 'none'}: both run "
            "here as the original does."
        )
        return
    stretched = _numbers([factor, scaling.get("factor")])
    if said and stretched and not math.isclose(*stretched, rel_tol=_NEAR):
        yield f"The file stretches positions {stretched[0]:g} times, the original {stretched[1]:g} times."


def factors(config: Mapping[str, Any]) -> dict[str, list[float]]:
    """Name of a tensor → factors that llama.cpp's converter writes of this config: of the kind ``llama3`` (a frequency
    of a long wave is divided by the factor, one of a short wave is left, those between go from one to the other), and
    of ``longrope``. Empty for other kinds, and where the config lacks what they need."""
    scaling = _scaling(config)
    kind = scaling.get("rope_type", scaling.get("type"))
    if kind in ("longrope", "su"):
        listed = {_LONG: _numbers(scaling.get("long_factor")), _SHORT: _numbers(scaling.get("short_factor"))}
        return {name: values for name, values in listed.items() if values}
    if kind != "llama3":
        return {}
    given = _numbers(
        [
            *(scaling.get(name) for name in ("factor", "low_freq_factor", "high_freq_factor")),
            scaling.get("original_max_position_embeddings", config.get("max_position_embeddings")),
            config.get("rope_theta"),
            config.get("head_dim") or _head(config),
        ]
    )
    if not given or min(given) <= 0 or given[1] == given[2]:
        return {}
    factor, low, high, context, base, size = given
    found = []
    for place in range(0, int(size), 2):
        wave = 2 * math.pi * base ** (place / size)
        part = min(1.0, max(0.0, (context / wave - low) / (high - low)))
        found.append(1 / ((1 - part) / factor + part))
    return {_FREQUENCIES: found}


def _scaling(config: Mapping[str, Any]) -> Mapping[str, Any]:
    found = config.get("rope_scaling") or config.get("rope_parameters")
    inner = found.get("full_attention", found) if isinstance(found, dict) else None
    return inner if isinstance(inner, dict) else {}


def _head(config: Mapping[str, Any]) -> Any:
    hidden, heads = config.get("hidden_size"), config.get("num_attention_heads")
    return hidden // heads if isinstance(hidden, int) and isinstance(heads, int) and heads > 0 else None


def _numbers(given: Any) -> list[float]:
    """As they are; none where one of them is none."""
    if isinstance(given, list) and all(
        isinstance(one, int | float) and not isinstance(one, bool) and math.isfinite(one) for one in given
    ):
        return [float(one) for one in given]
    return []
