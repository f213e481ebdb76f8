"""The folder of what qfund keeps for itself."""

import os
from pathlib import Path

from qfund.core.errors import StoreError


def home() -> Path:
    """Where qfund keeps its files: ``$QFUND_HOME``, ``$XDG_DATA_HOME/qfund`` or ``~/.local/share/qfund``.

    Raises:
        StoreError: if none of them says where.
    """
    try:
        if given := os.environ.get("QFUND_HOME"):
            return Path(given).expanduser().absolute()
        data = os.environ.get("XDG_DATA_HOME", "")
        return (Path(data) if Path(data).is_absolute() else Path("~/.local/share").expanduser()) / "qfund"
    except RuntimeError as error:
        raise StoreError(f"This user has no home folder: {error}", "Set QFUND_HOME to a folder.") from error
