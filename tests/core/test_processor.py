"""What is known of the processor."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from qfund.core import processor


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    processor.multiplies_in.cache_clear()
    yield
    processor.multiplies_in.cache_clear()


@pytest.mark.parametrize(
    ("line", "bf16", "fp16"),
    [
        ("flags\t\t: fpu avx2 f16c", False, False),
        ("flags\t\t: fpu avx512f avx512_bf16 amx_bf16", True, False),
        ("flags\t\t: fpu avx512_bf16 avx512_fp16", True, True),
        ("Features\t: fp asimd asimdhp bf16", True, True),
        ("model name\t: of no known kind", True, True),  # nobody can tell
    ],
)
def test_instructions(line: str, bf16: bool, fp16: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\n{line}\n")
    monkeypatch.setattr(processor, "_INFO", tmp_path / "cpuinfo")
    assert (processor.multiplies_in("bfloat16"), processor.multiplies_in("float16")) == (bf16, fp16)
    assert processor.multiplies_in("float32")


def test_where_the_system_tells_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processor, "_INFO", tmp_path / "cpuinfo")
    assert processor.multiplies_in("bfloat16")
    assert "cores" in processor.cpu_name()
