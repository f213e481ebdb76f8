"""``qfund run``: the dashboard."""

import subprocess
import sys
from argparse import Namespace
from pathlib import Path

from qfund.commandline.table import Command, Option
from qfund.core.errors import QfundError

_APP = Path(__file__).resolve().parents[2] / "app.py"

_PORT, _HOST = 8501, "localhost"


def _run(options: Namespace) -> None:
    command = [sys.executable, "-m", "streamlit", "run", str(_APP)]
    command += [f"--server.port={options.port}", f"--server.address={options.host}"]
    # Streamlit reads .streamlit/config.toml from the working directory.
    code = subprocess.run(command, cwd=_APP.parent, check=False).returncode
    if code:
        raise QfundError(f"The dashboard ended with exit code {code}.", "See its message above.")


COMMAND = Command(
    run=_run,
    rows=(
        Option("--port", f"port to listen on (default: {_PORT})", "N", int, _PORT),
        Option("--host", f"address to listen on (default: {_HOST})", "A", default=_HOST),
    ),
    examples=("qfund run --port 8501 --host localhost",),
)
