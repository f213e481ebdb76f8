"""Safetensors files as bytes, true or not."""

import json
from typing import Any


def header(rows: object, data: int = 0, length: int | None = None) -> bytes:
    """A file with this header (text, or rows as JSON) and so many bytes of weights."""
    raw = rows.encode() if isinstance(rows, str) else json.dumps(rows).encode()
    return (len(raw) if length is None else length).to_bytes(8, "little") + raw + bytes(data)


def row(start: int, end: int, shape: list[Any] | None = None, dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": [(end - start) // 4] if shape is None else shape, "data_offsets": [start, end]}
