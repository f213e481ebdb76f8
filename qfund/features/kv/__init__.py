"""What rounding the KV cache costs: keys and values rounded where they are written, weights left alone."""

from qfund.core.feature import Feature, Kind, Page

_AT = "qfund.features.kv"

FEATURE = Feature(
    "kv",
    page=Page(
        "kv",
        "KV cache",
        "memory_alt",
        "What rounding the keys and values that a model remembers costs its outputs, and how that grows with context.",
        group="More",
    ),
    kinds=(
        Kind(
            "kv",
            request=f"{_AT}.request:KvRequest",
            result=f"{_AT}.request:Kv",
            measure=f"{_AT}.measure.kv:kv",
            check=f"{_AT}.request:checked",
        ),
    ),
    commands={"kv": "measure what rounding the KV cache costs, by depth of context"},
)
