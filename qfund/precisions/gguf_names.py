"""What llama.cpp calls a weight of a transformers model."""

import re
from functools import cache
from itertools import chain


def gguf_name(name: str) -> str | None:
    """``model.layers.3.self_attn.v_proj.weight`` → ``blk.3.attn_v.weight``; None where llama.cpp has no name for it.

    By the tables of the ``gguf`` package, those of all architectures together: models of one kind name alike.
    """
    plain = name.removesuffix(".weight")
    found = re.search(r"(?<=\.)\d+(?=\.)", plain)
    block = found.group() if found else ""
    pattern = plain[: found.start()] + "{bid}" + plain[found.end() :] if found else plain
    while pattern:
        for tried in (pattern, f"model.{pattern}"):
            if tried in _names():
                return _names()[tried].replace("{bid}", block) + ".weight"
        pattern = pattern.partition(".")[2]  # models within models
        if not found and "." not in pattern:
            return None
    return None


@cache
def _names() -> dict[str, str]:
    from gguf import TENSOR_NAMES, TensorNameMap

    found: dict[str, str] = {}
    tables = TensorNameMap.block_mappings_cfg, TensorNameMap.mappings_cfg
    for tensor, names in chain.from_iterable(table.items() for table in tables):
        for name in names:
            found.setdefault(name, TENSOR_NAMES[tensor])
    return found
