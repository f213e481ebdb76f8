"""A real Streamlit server on a free port of this machine, for measurements, pictures and browser tests."""

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from random import SystemRandom

ROOT = Path(__file__).resolve().parent.parent

START = 120.0  # seconds that a server may take to answer


class Address(str):
    """Where a server listens. ``pid``: of its process."""

    pid: int

    def processor(self) -> float:
        """Seconds of processor time that the server has taken, of threads that have ended too."""
        return time.clock_gettime(~self.pid << 3 | 2)  # as clock_getcpuclockid(3) has it on Linux


@contextmanager
def served(
    script: Path, home: Path, folder: Path = ROOT, *options: str, settings: Mapping[str, str] | None = None
) -> Iterator[Address]:
    """The address of ``script`` served from ``folder`` (whose ``.streamlit/config.toml`` counts): a server that has
    answered nothing yet but that it is healthy.

    Args:
        home: where qfund keeps its database; what the server says goes to a log there.
        options: of Streamlit.
        settings: environment variables of qfund.

    Raises:
        RuntimeError: it ended, or did not answer in time.
    """
    port = _free_port()
    command = [sys.executable, "-m", "streamlit", "run", str(script), f"--server.port={port}"]
    command += ["--server.address=127.0.0.1", "--server.headless=true", *options]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("QFUND_")}
    environment |= {"QFUND_HOME": str(home), "OMP_WAIT_POLICY": "passive", **(settings or {})}
    home.mkdir(parents=True, exist_ok=True)
    log = home / f"{script.stem}.log"
    with log.open("wb") as output:
        server = subprocess.Popen(command, cwd=folder, env=environment, stdout=output, stderr=subprocess.STDOUT)
    address = Address(f"http://127.0.0.1:{port}")
    address.pid = server.pid
    try:
        _wait(server, address, log)
        yield address
    finally:
        server.terminate()
        try:
            server.wait(15)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def _free_port() -> int:
    """Below those that systems give to whoever asks for any one: until the server takes it, nobody else
    gets it by chance."""
    with socket.socket() as probe:
        while True:
            with suppress(OSError):
                probe.bind(("127.0.0.1", port := SystemRandom().randrange(16_384, 32_768)))
                return port


def _wait(server: "subprocess.Popen[bytes]", address: str, log: Path) -> None:
    """Until the server answers."""
    deadline = time.monotonic() + START
    while True:
        try:
            with urllib.request.urlopen(f"{address}/_stcore/health", timeout=2):
                return
        except OSError as error:
            if server.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"The server does not start:\n{log.read_text()}") from error
            time.sleep(0.1)
