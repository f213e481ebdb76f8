"""What people call their GPU and write for a context is understood in a link, on the command line and on the page."""

import pytest

from qfund.commandline.parser import parse
from qfund.core.errors import InvalidSpec, UnknownName, UsageError
from qfund.features.memory import link
from qfund.features.memory.request import budgets
from qfund.features.memory.request.budgets import GPUS


@pytest.mark.parametrize(
    ("written", "name"),
    [
        *((each, "rtx-4090") for each in ("4090", "rtx 4090", "RTX4090", " NVIDIA GeForce RTX 4090 ", "rtx_4090")),
        *(("4090, 24 GB", "rtx-4090"), ("4060 ti 16GB", "rtx-4060-ti-16gb"), ("A100 80GB", "a100-80gb")),
        *(
            ("NVIDIA T4", "t4"),
            ("rtx 6000 ada", "rtx-6000-ada"),
            ("RTX PRO 6000", "rtx-pro-6000"),
            ("A6000", "rtx-a6000"),
        ),
        *((name, name) for name in GPUS),
        *((gpu.title, name) for name, gpu in GPUS.items()),
    ],
)
def test_a_gpu_is_known_by_every_name_that_people_write(written: str, name: str) -> None:
    assert budgets.gpu(written) is GPUS[name] and budgets.recognized(written) == name
    assert budgets.budget(written) == GPUS[name].bytes
    assert link.from_query({"budget": [written]}) == (link.Asked(budget=name), [])
    options = parse(["fits", "dummy", "--budget", written])
    assert budgets.budget(options.budget) == GPUS[name].bytes


@pytest.mark.parametrize(
    ("written", "meant"),
    [("4091", "rtx-4090"), ("a100", "a100-40gb or a100-80gb"), ("rtx 4900", "rtx-4090"), ("V100", "v100-16gb")],
)
def test_what_is_nearly_a_gpu_is_no_amount_and_no_other_gpu(written: str, meant: str) -> None:
    with pytest.raises(UnknownName, match=f"Did you mean: {meant}"):
        budgets.gpu(written)
    with pytest.raises(InvalidSpec, match=f"Did you mean: {meant}"):
        budgets.budget(written)


@pytest.mark.parametrize("text", ["24GiB", "24 GB", "24gb", "512MiB", "1.5GiB", "16"])
def test_an_amount_is_no_gpu(text: str) -> None:
    assert budgets.recognized(f" {text} ") == text
    with pytest.raises(UnknownName):
        budgets.gpu(text)


def test_a_context_is_what_people_write() -> None:
    for text, count in (("8k", 8192), ("8K", 8192), ("8192", 8192), ("8,192", 8192), ("1.5k", 1536), ("1M", 2**20)):
        assert parse(["fits", "dummy", "--gpu", "t4", "--context", text]).context == count
        assert link.from_query({"context": [text]}) == (link.Asked(context=count), [])
    for text in ("8kb", "k", "", "-8k", "1.0001k", "8 192", "٣"):
        with pytest.raises(UsageError, match="context"):
            parse(["fits", "dummy", "--gpu", "t4", f"--context={text}"])
