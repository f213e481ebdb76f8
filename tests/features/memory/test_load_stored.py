"""The load peak of a checkpoint that is quantised already: what it needs by what is stored, and what goes with it."""

from dataclasses import replace
from pathlib import Path

import pytest

from qfund.checkpoints.headers import read_header
from qfund.core.errors import UnsupportedModel
from qfund.features.memory import tables, words
from qfund.features.memory.command import load_peak as load_peak_command
from qfund.features.memory.measure import load_peak
from qfund.features.memory.measure.loading import sampler
from qfund.features.memory.request.load_peak import LoadPeakRequest
from tests.features.memory.plans import make_peaks, way
from tests.models import test_prequantized as made
from tests.tiny import checkpoints

MIB = 1024**2


@pytest.mark.skipif(not sampler.available(), reason="no /proc")
def test_multiples_are_of_what_is_stored(tmp_path: Path) -> None:
    made.torchao(tmp_path)
    found = load_peak.load_peak(LoadPeakRequest(str(tmp_path), ("stored",)))
    stored = sum(tensor.bytes for tensor in read_header(tmp_path / "model.safetensors").values())
    assert found.weights_bytes == found.stored_bytes == stored
    assert found.ways == (found.reference,)
    one, sampled = found.reference, found.reference.sampled
    assert (one.precision, one.way, one.problem) == ("stored", "as-stored", None)
    assert sampled is not None and one.inference is not None
    assert one.footprint_bytes == stored + 2 * 8 * 4  # the rotary embedding's frequencies are in no file
    assert stored <= sampled.settled <= sampled.need < stored + 3 * MIB
    assert sampled.multiples["need"] == sampled.need / stored and one.inference.multiple == one.inference.need / stored
    assert "torchao Int8WeightOnly" in found.notes[0] and "as they are stored" in found.notes[0]
    shown = load_peak_command.text(found)
    assert "of weights as they are stored (= 1.00)" in shown and "fp32 weights take" not in shown
    assert list(tables.loads(found)["Precision"]) == ["As stored"]


def test_words_name_the_unit(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = make_peaks(LoadPeakRequest("m", ("bf16",)))
    assert plain.unit == "the fp32 weights"
    monkeypatch.setattr(words, "TINY", 0)
    row = way("stored", "as-stored", 3 * plain.weights_bytes, 1, 1)
    found = make_peaks(LoadPeakRequest("m", ("stored",)))
    found = replace(found, reference=row, ways=(row,))
    assert words.load_needs(found, "stored") == (
        "As stored: loading it as transformers reads it needs 3.00 times the bytes of the weights as they are stored."
    )


def test_what_transformers_cannot_run_here_is_refused_before_it_is_loaded(tmp_path: Path) -> None:
    made.promise(tmp_path / "model", quant_method="awq", bits=4, group_size=128, zero_point=True)
    with pytest.raises(UnsupportedModel, match=r"transformers .* cannot run that here"):
        load_peak.load_peak(LoadPeakRequest(str(tmp_path / "model"), ("stored",)))
    with pytest.raises(UnsupportedModel, match="Choose `stored`"):
        load_peak.load_peak(LoadPeakRequest(str(tmp_path / "model")))


def test_a_plain_checkpoint_has_no_stored_form() -> None:
    with pytest.raises(UnsupportedModel, match="is not quantised"):
        load_peak.load_peak(LoadPeakRequest(str(checkpoints.folder("llama")), ("stored",)))
