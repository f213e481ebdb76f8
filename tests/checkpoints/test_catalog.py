import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from qfund.checkpoints import catalog, checkpoint
from qfund.checkpoints.catalog import CATALOG, identity, locate
from qfund.checkpoints.identity import content_id
from qfund.core.errors import InvalidSpec, ModelNotFound, UnknownName
from qfund.features.compare.measure.compare import compare
from qfund.features.compare.request import report
from qfund.features.compare.request.examples import EXAMPLE
from qfund.features.compare.request.spec import Spec
from qfund.inputs import evaluation, pydoc_text
from tests.engine.shipping import ships
from training import dummy


def test_what_a_name_means(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "one").mkdir(parents=True)
    assert locate("pydoc-llama").kind == "shipped"
    assert locate("runs/one").folder == tmp_path / "runs" / "one", "a folder that is there is no Hub id"
    assert locate("runs/two") == catalog.Source("hub", "runs/two", None, None)
    assert locate("owner/name", "refs/pr/3").revision == "refs/pr/3"


@pytest.mark.parametrize("name", ["pydoc-lama", "a b", "a/b/c", "../../no-such-folder", "owner/"])
def test_names_that_mean_nothing(name: str) -> None:
    with pytest.raises((UnknownName, ModelNotFound)) as caught:
        locate(name)
    assert caught.value.remedy


def test_a_close_name_is_suggested() -> None:
    names = "pydoc-llama, shapes-blip, docstring-kinds, docstring-vectors, dummy"
    with pytest.raises(UnknownName, match=rf"Did you mean: pydoc-llama\? Available: {names}"):
        locate("pydoc-lama")


def test_a_server_may_allow_its_catalog_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QFUND_ALLOW", "")
    assert locate("dummy").kind == "shipped"
    for name in (str(tmp_path), "owner/name", "/etc"):
        with pytest.raises(InvalidSpec, match="This server does not open"):
            locate(name)
    monkeypatch.setenv("QFUND_ALLOW", "folder")
    assert locate(str(tmp_path)).kind == "folder"
    with pytest.raises(InvalidSpec, match="Hub"):
        locate("owner/name")


def test_only_hub_ids_have_revisions() -> None:
    with pytest.raises(InvalidSpec, match="no revisions"):
        locate("dummy", "main")


def test_the_identity_tells_weights_revisions_and_devices_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    dummy_id = identity(Spec("dummy"))
    assert content_id(CATALOG["dummy"].folder) in dummy_id
    assert identity(Spec("a/b")) != identity(Spec("a/b", revision="x"))
    monkeypatch.setenv("QFUND_DEVICE", "cuda")
    assert identity(Spec("dummy")) != dummy_id


def test_what_the_first_page_opens_on_is_what_is_measured_here() -> None:
    """A smaller run of the same comparison gives the same beginning: model, text, chunks and distributions."""
    shown = ships(EXAMPLE)
    assert shown.tokens is not None
    fresh = compare(replace(EXAMPLE, max_tokens=1024, precisions=("bf16",)))
    assert fresh.tokens is not None
    if fresh.input.sha256 != shown.input.sha256:
        pytest.skip("this Python carries other documentation than the one that measured what ships")
    ours, theirs = fresh.tokens, shown.tokens
    assert ours.pieces == theirs.pieces[: len(ours.pieces)] and len(ours.pieces) == 1024
    assert fresh.reference.footprint_bytes == shown.reference.footprint_bytes
    both = [place for place in ours.detailed if place in theirs.detailed]
    assert len(both) > 100, "the first positions are kept in full"
    for place in both:
        here, there = (found.reference.probabilities[found.detailed.index(place)] for found in (ours, theirs))
        assert here == pytest.approx(there, rel=0.01, abs=1e-5)  # other kernels and batch shapes round differently


def test_the_shipped_model_is_trained_and_its_record_is_true() -> None:
    folder = CATALOG["pydoc-llama"].folder
    record = json.loads((folder / "training.json").read_text())
    measured = compare(replace(EXAMPLE, precisions=("fp32",), max_tokens=8192)).reference.fidelity["perplexity"]
    assert measured.se is not None
    assert measured.value == pytest.approx(record["held_out_perplexity"], abs=5 * measured.se)
    assert measured.value < 50, "a random model has a perplexity near its vocabulary of 2048"
    assert sum(file.stat().st_size for file in folder.iterdir()) < 25e6
    assert sum(tensor.bytes for tensor in checkpoint.read(folder).tensors.values()) == 4 * record["parameters"]


def test_no_held_out_unit_is_in_another_group_or_missing() -> None:
    manifest = pydoc_text.read_manifest(CATALOG["pydoc-llama"].folder / "held_out.json")
    assert len(set(manifest.units)) == len(manifest.units) > 20
    present = [unit for unit in manifest.units if pydoc_text.read_unit(unit)]
    assert len(present) >= 0.8 * len(manifest.units)
    assert set(present) <= set(pydoc_text.unit_names())


def test_another_python_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pydoc_text, "read_unit", lambda name: f"documentation of {name}")
    _, notes = evaluation.evaluation_text(locate("pydoc-llama"))
    assert any("slightly other documentation" in note for note in notes)


def test_a_model_without_its_own_text_reads_the_documentation(tmp_path: Path) -> None:
    text, notes = evaluation.evaluation_text(locate(str(tmp_path)))
    assert len(text) > 10_000
    assert any("instead" in note for note in notes)


def test_dummy_is_what_its_seed_gives(tmp_path: Path) -> None:
    dummy.make(tmp_path)
    made, shipped = (load_file(folder / "model.safetensors") for folder in (tmp_path, CATALOG["dummy"].folder))
    assert made.keys() == shipped.keys()
    assert all(torch.equal(made[name], shipped[name]) for name in made)


def test_the_lessons_figures_come_out() -> None:
    found = compare(Spec("dummy", precisions=("bf16",)))
    fidelity = found.results[0].fidelity
    assert found.input.tokens == 4 and found.input.chunks == 2  # [[1, 0], [0, 1]]
    assert fidelity["mean_abs_logit_diff"].value == pytest.approx(0.000998, abs=5e-7)
    assert fidelity["max_abs_logit_diff"].value == pytest.approx(0.0016907453536987305, abs=1e-9)
    assert (found.reference.footprint_bytes, found.results[0].footprint_bytes) == (120, 60)


def test_reports_survive_the_round_trip() -> None:
    found = compare(Spec("dummy", precisions=("fp32", "bf16", "fp16", "int8")))
    assert report.from_json(report.to_json(found)) == found
