"""One precision that a model cannot have does not end the comparison of the others: it is named, with its reason."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from safetensors.torch import load_file, save_file

from qfund.core.errors import CorruptCheckpoint, NothingConverted, UnsupportedModel
from qfund.features.compare.command.printing import text
from qfund.features.compare.measure import streamed, whole
from qfund.features.compare.measure.compare import compare
from qfund.features.compare.request.decision import Margin
from qfund.features.compare.request.report import from_json, to_json
from qfund.features.compare.request.spec import Spec
from qfund.features.compare.words import report as words
from qfund.precisions.precision import Precision
from tests.tiny import checkpoints

TEXT = checkpoints.TEXT[:200]


def test_what_converts_nothing_is_left_out_and_named() -> None:
    spec = Spec(str(checkpoints.folder("vit-classifier")), precisions=("bf16", "bf16_fp32_head"))
    report = compare(spec)
    assert [row.precision for row in report.results] == ["bf16"]
    assert report.spec.precisions == ("bf16", "bf16_fp32_head")  # as asked
    assert list(report.refused) == ["bf16_fp32_head"]
    said = words.notes(report)[0]
    assert "is left out: " in said and "its output head is not there" in said
    assert said in text(report, Margin())
    assert msgspec.json.decode(to_json(report))["refused"] == report.refused
    assert from_json(to_json(report)) == report


def test_the_only_candidate_is_refused_as_ever() -> None:
    with pytest.raises(NothingConverted):
        compare(Spec(str(checkpoints.folder("vit-classifier")), precisions=("bf16_fp32_head",)))


def test_weights_that_no_scale_can_hold_refuse_the_quantisers_only(tmp_path: Path) -> None:
    checkpoints.make("llama", tmp_path)
    held = load_file(tmp_path / "model.safetensors")
    held["model.layers.0.mlp.up_proj.weight"][0, 0] = torch.inf
    save_file(held, tmp_path / "model.safetensors", {"format": "pt"})
    report = compare(Spec(str(tmp_path), precisions=("bf16", "int8", "nf4"), text=TEXT))
    assert [row.precision for row in report.results] == ["bf16"]
    assert set(report.refused) == {"int8", "nf4"}
    assert all("no scale can hold them" in why for why in report.refused.values())
    with pytest.raises(CorruptCheckpoint):
        compare(Spec(str(tmp_path), precisions=("int8", "nf4"), text=TEXT))


def test_one_that_the_model_does_not_run_in_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    run = whole.forward

    def forward(model: Any, batch: Any, row: Precision, *caches: Any) -> Any:
        if row.name == "int8":
            raise UnsupportedModel("no kernel for it")
        return run(model, batch, row, *caches)

    monkeypatch.setattr(whole, "forward", forward)
    monkeypatch.setattr(streamed, "streamed_or_why_not", lambda *_: "whole for once")
    report = compare(Spec(str(checkpoints.folder("llama")), precisions=("bf16", "int8"), text=TEXT))
    assert [row.precision for row in report.results] == ["bf16"]
    assert report.refused == {"int8": "no kernel for it"}
