"""How many parts a config.json asks for, before anything is built of it: a line of text may ask for any number."""

import re
from collections.abc import Mapping
from typing import Any

from qfund.core.errors import UnsupportedModel

#: Layers of one stack: the deepest that were published have 1,000.
MOST_LAYERS = 1_024
#: Experts of all layers: the most that were published are 2,048 in each of some thirty.
MOST_EXPERTS = 65_536
_LAYERS = re.compile(r"(n|num)_(\w+_)?(layers?|blocks|codebooks|hidden_groups)|(encoder|decoder)_layers|depths?")
_EXPERTS = re.compile(r"(n|num)_(local_|routed_|shared_)?experts")


def must_be_buildable(config: Mapping[str, Any]) -> None:
    """
    Raises:
        UnsupportedModel: it asks for more than ``MOST_LAYERS``, or for more than ``MOST_EXPERTS`` in all of them.
    """
    parts: list[Any] = [config]
    while parts:
        part = parts.pop()
        if isinstance(part, list):
            parts += [value for value in part if isinstance(value, dict | list)]
            continue
        layers = _most(part, _LAYERS)
        experts = _most(part, _EXPERTS)
        for (key, count), most in ((layers, MOST_LAYERS), ((experts[0], experts[1] * max(layers[1], 1)), MOST_EXPERTS)):
            if count > most:
                of = "" if key == layers[0] else " of all layers together"
                raise UnsupportedModel(
                    f"config.json says {key} = {str(part[key])[:100]}: {count:,.6g}{of}; at most {most:,} are built.",
                    "Check the file, or choose another model.",
                )
        parts += [value for value in part.values() if isinstance(value, dict | list)]


def _most(part: Mapping[str, Any], keys: re.Pattern[str]) -> tuple[str, int]:
    """The entry that counts most; stages are a list, which counts together."""
    counted = {key: _count(value) for key, value in part.items() if keys.fullmatch(key)}
    return max(counted.items(), key=lambda item: item[1], default=("", 0))


def _count(value: Any) -> int:
    numbers = value if isinstance(value, list) else [value]
    return sum(number for number in numbers if isinstance(number, int))
