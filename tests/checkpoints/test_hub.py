"""The real Hub client against a server on this machine."""

import json
import os
import shutil
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from qfund.checkpoints.catalog import CATALOG
from tests.checkpoints.fake_hub import COMMIT, FakeHub
from tests.tiny import gguf_files
from tests.tiny.checkpoints import folder


def environment(hub_url: str, cache: Path) -> dict[str, str]:
    """The client reads its address and cache when it is imported: each run is a process of its own."""
    return os.environ | {
        "HF_ENDPOINT": hub_url,
        "HF_HOME": str(cache),
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "QFUND_ALLOW": "hub",
    }


def ask(hub_url: str, cache: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "qfund", "compare", *arguments, "--no-store", "--json"]
    return subprocess.run(command, env=environment(hub_url, cache), capture_output=True, text=True, check=False)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    return Path(shutil.copytree(CATALOG["dummy"].folder, tmp_path / "files"))


def test_a_model_from_the_hub_is_pinned_and_safetensors_only(files: Path, tmp_path: Path) -> None:
    (files / "pytorch_model.bin").write_bytes(b"pickle")
    (files / "modeling_evil.py").write_text("raise SystemExit")
    with FakeHub(files, "someone/toy").serving() as hub:
        done = ask(hub.url, tmp_path / "cache", "someone/toy", "--precision", "bf16")
        assert done.returncode == 0, done.stderr
        asked = [path for path in hub.asked if "/resolve/" in path]
        assert not [path for path in asked if path.endswith((".bin", ".py"))]
        assert all(f"/resolve/{COMMIT}/" in path for path in asked), "every file comes from the one commit"
    from qfund.features.compare.request import report

    found = report.from_json(done.stdout.encode())
    assert found.environment.revision == COMMIT
    assert found.results[0].fidelity["mean_abs_logit_diff"].value == pytest.approx(0.000998, abs=5e-7)


def test_pickles_only_are_refused_before_a_download(files: Path, tmp_path: Path) -> None:
    (files / "model.safetensors").rename(files / "pytorch_model.bin")
    with FakeHub(files, "someone/toy").serving() as hub:
        done = ask(hub.url, tmp_path / "cache", "someone/toy")
        assert not [path for path in hub.asked if "/resolve/" in path]
    assert done.returncode == 1 and "no safetensors weights" in done.stderr
    assert "Traceback" not in done.stderr


#: ``qfund compare`` again and again in one process: arguments, one line each, to exit code, what was printed, and said.
AGAIN = """
import io, json, sys
from contextlib import redirect_stderr, redirect_stdout
from qfund.cli import main
for line in sys.stdin:
    out, err, code = io.StringIO(), io.StringIO(), 0
    with redirect_stdout(out), redirect_stderr(err):
        try: main(["compare", *json.loads(line), "--no-store", "--json"])
        except SystemExit as ended: code = ended.code
    print(json.dumps([code, out.getvalue(), err.getvalue()]), flush=True)
"""


def test_what_the_hub_does_not_have(files: Path, tmp_path: Path) -> None:
    hub = FakeHub(files, "someone/toy")

    def asks(*arguments: str) -> str:
        assert process.stdin and process.stdout
        process.stdin.write(json.dumps(arguments) + "\n")
        process.stdin.flush()
        code, printed, said = json.loads(process.stdout.readline())
        assert code == 1 and printed == "" and "Traceback" not in said
        return str(said)

    with ExitStack() as stack:
        with hub.serving():
            given = environment(hub.url, tmp_path / "cache")
            process = stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-c", AGAIN], env=given, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
                )
            )
            assert "has no model someone/else" in asks("someone/else")
            assert "no revision 'v9'" in asks("someone/toy", "--revision", "v9")
            hub.gated = True
            assert "is gated" in asks("someone/toy")
        assert "could not be fetched" in asks("someone/toy")  # the server is gone


def test_a_quantised_file_of_a_repository_is_fetched_alone_with_its_parts(tmp_path: Path) -> None:
    files = tmp_path / "files"
    files.mkdir()
    gguf_files.write(folder("llama"), files / "tiny-Q8_0.gguf")
    gguf_files.write(folder("llama"), files / "other.gguf")
    with FakeHub(files, "someone/toy").serving() as hub:

        def audit(file: str) -> subprocess.CompletedProcess[str]:
            command = [sys.executable, "-m", "qfund", "audit", file, "--no-store", "--json", "--quiet"]
            given = environment(hub.url, tmp_path / "cache")
            return subprocess.run(command, env=given, capture_output=True, text=True, check=False)

        done = audit(f"someone/toy@{COMMIT}:tiny-Q8_0.gguf")
        assert done.returncode == 0, done.stderr
        assert {name for name, _, _ in hub.sent} == {"tiny-Q8_0.gguf"}
        asked = [path for path in hub.asked if "/resolve/" in path]
        assert asked and all(path.endswith(f"/resolve/{COMMIT}/tiny-Q8_0.gguf") for path in asked)
        missing = audit("someone/toy:nothing.gguf")
    found = json.loads(done.stdout)
    assert found["label"] == "GGUF Q8_0" and found["bytes"] == (files / "tiny-Q8_0.gguf").stat().st_size
    assert missing.returncode == 1 and "holds no nothing.gguf" in missing.stderr and "other.gguf" in missing.stderr
    assert "Traceback" not in missing.stderr
