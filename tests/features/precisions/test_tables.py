"""The table of precisions as frames."""

from qfund.features.precisions import tables as precisions_tables
from qfund.precisions.table import PRECISIONS


def test_the_table_of_precisions_has_every_row_and_why_not() -> None:
    frame = precisions_tables.precisions("cpu").set_index("name")
    assert list(frame.index) == list(PRECISIONS)
    assert frame.loc["int4_bf16", "effective"] == 4.5 and frame.loc["int4", "effective"] == 5.0
    assert frame.loc["tf32", "here"] == "no: needs a CUDA GPU"
    assert frame.loc["tf32", "why_not"].startswith("TF32 needs an NVIDIA GPU")
    assert frame.loc["int4", "sqnr"] == 20 and frame.loc["bf16", "sqnr"] == 55
    untouched = ["fp64", "fp32", "tf32", "bf16_autocast", "fp16_autocast", "stored"]
    assert frame.index[frame["sqnr"].isna()].to_list() == untouched, "their weights are not rounded, or not by qfund"
    assert frame.loc["tf32", "torchao"] == "–"
    assert "bf16" in frame.loc["mxfp4", "torchao"], "in a bf16 model only"
    assert frame.loc["int8_dynamic", "quantised"] == "weights and activations"
    assert set(frame["here"]) - {"yes"} == {frame.loc["tf32", "here"]}
    told = precisions_tables.reasons(frame)
    assert told[0] == frame.loc["tf32", "why_not"] and len(told) == len(set(told)) > 1
