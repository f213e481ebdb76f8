"""The script for a machine with a GPU, before there is one: on a simulated GPU, and without any."""

import sys
from types import SimpleNamespace

import pytest
import torch

from benchmarks import device
from qfund.stream import streamed
from tests.simulated_gpu import simulated

SMALL = device.Sizes(side=64, tokens=64, copied=64 * 1024, layers=1, rounds=1)
GPU = torch.device("cuda:0")


@pytest.mark.parametrize("name", ["codes", "uploads"])
def test_a_check_finds_a_simulated_gpus_values_right(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with simulated():
        monkeypatch.setattr(device, "DeviceQueues", vars(streamed)["DeviceQueues"])
        done = device.run(GPU, [name], 100.0, SMALL)
    said = capsys.readouterr().out
    assert done == 0 and "All within their tolerances." in said and said.startswith(f"{name}: ")


def test_a_wrong_value_is_told_and_the_others_are_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def wrong(_: torch.device, __: device.Sizes, said: device.Said) -> None:
        """Of nothing."""
        said.figure("2 (1)", False)

    def broken(*_: object) -> None:
        """Of a kernel that is not there."""
        raise RuntimeError("no kernel image")

    monkeypatch.setattr(device, "CHECKS", {"wrong": wrong, "broken": broken})
    assert device.run(GPU, ["broken", "wrong"], 100.0) == 1
    said = capsys.readouterr().out
    assert "broken failed: RuntimeError: no kernel image   OUT OF TOLERANCE" in said
    assert "2 (1)   OUT OF TOLERANCE" in said and "2 out of tolerance." in said


def test_no_check_begins_after_the_time_is_over(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = [0.0]

    def slow(*_: object) -> None:
        """Takes its time."""
        now[0] += 60.0

    monkeypatch.setattr(device, "CHECKS", dict.fromkeys(("a", "b", "c"), slow))
    assert device.run(GPU, ["a", "b", "c"], 100.0, clock=lambda: now[0]) == 1
    assert now == [120.0] and "Not run, for want of time: c." in capsys.readouterr().out


def test_shares_of_the_limits_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """10⁹ weights, sent in 4, 2 and 1 bytes over 70 GB/s: 0.1 s; read of 500 tokens at 100 and 200 TFLOP/s: 25 ms."""
    peaks = {"float32": 100e12, "bfloat16": 200e12}
    monkeypatch.setattr(device, "transfer", lambda *_: 70e9)
    monkeypatch.setattr(device, "bounds", lambda dtypes, place: SimpleNamespace(peaks=peaks))
    found = list(device.shares(GPU, 10**9, ("bf16", "int8"), 500, 0.5, SMALL))
    assert found[0] == "transfers: 20% of the limit of 70.0 GB/s"
    assert found[1] == "products: 5% of the matrix peaks: float32 100 TFLOP/s, bfloat16 200 TFLOP/s"


def test_every_check_says_what_it_is_of() -> None:
    assert all(check.__doc__ for check in device.CHECKS.values())


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is one")
@pytest.mark.parametrize("asked", ["cuda", "cpu"])
def test_without_a_gpu_it_says_so_and_fails(asked: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["device", "--device", asked])
    monkeypatch.setenv("QFUND_DEVICE", "cpu")
    monkeypatch.setenv("QFUND_CACHE_GIB", "0")
    with pytest.raises(SystemExit, match="No GPU here: "):
        device.main()
