"""Which format a folder says that it is in: by its config.json, or by the file that ModelOpt puts beside it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qfund.checkpoints import checkpoint, quantization
from qfund.core.errors import QfundError

MODELOPT = "hf_quant_config.json"


def method_of(folder: Path) -> str | None:
    """Which of the formats a folder says that it is in, by its config alone; None for a plain one, or for none."""
    try:
        found = settings_of(folder, checkpoint.read_config(folder))
    except QfundError:
        return None
    return None if found is None else found[0]


def says_so(folder: Path) -> bool:
    """Whether the config.json of a folder, which has one, says itself that it is quantised."""
    return quantization.entry_of(checkpoint.read_config(folder)) is not None


def settings_of(folder: Path, config: Mapping[str, Any]) -> tuple[str, str, Mapping[str, Any]] | None:
    """Method, label and settings."""
    entry = quantization.entry_of(config)
    if quantization.for_mlx(config, entry[1] if entry else None):
        settings = config.get("quantization") or (entry[1] if entry else {})
        return "mlx", f"MLX {settings.get('mode', 'affine')} {settings.get('bits')} bits", settings
    if entry is not None:
        found = quantization.find(config)
        assert found is not None
        method, settings = found.method, found.settings
        if method == "auto-round":
            layout = str(settings.get("packing_format") or settings.get("backend") or "auto_round:auto_gptq")
            method = "awq" if "awq" in layout else "gptq" if "gptq" in layout else "auto-round"
        method = "mlx" if method == "metal" else method
        return method, found.label, settings
    if (folder / MODELOPT).is_file():
        settings = checkpoint.read_json(folder / MODELOPT).get("quantization")
        if isinstance(settings, dict):
            return "modelopt", f"ModelOpt {settings.get('quant_algo') or ''}".strip(), settings
    return None
