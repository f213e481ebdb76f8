"""Pairs of texts with scores: read from files, correlated with cosines as SciPy does, judged by what is lost."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from qfund import cli
from qfund.core.errors import InvalidInput
from qfund.core.estimate import Estimate
from qfund.engine import key_of
from qfund.features.outputs.measure.correlation import correlations, spearman
from qfund.features.outputs.request.embeddings import EmbeddingsRequest
from qfund.features.outputs.request.verdicts import MARGIN, Margin, verdict
from qfund.inputs import pairs
from qfund.inputs.pairs import Pair
from tests.features.outputs.test_verdicts import embedded

TWO = (Pair('a "b', "c, d", 4.5), Pair("e", "f", 0.0))
FILES = {
    "names in any order": 'score,sentence2,sentence1\n4.5,"c, d","a ""b"\n0,f,e\n',
    "no names": 'a "b\tc, d\t4.5\n\ne\tf\t0\n',
    "STS": 'x\ty\tz\t1\t4.5\ta "b\tc, d\nx\ty\tz\t2\t0\te\tf\n',
    "objects": "\ufeff"
    + "\n".join(json.dumps({"text1": one.first, "text2": one.second, "label": one.score}) for one in TWO),
    "lists": json.dumps(['a "b', "c, d", 4.5]) + "\n" + json.dumps(["e", "f", "0"]),
}


@pytest.mark.parametrize("text", FILES.values(), ids=FILES)
def test_pairs_are_read(text: str) -> None:
    assert pairs.of_file(text) == TWO


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no pair"),
        (",,\n,,\n", "no pair"),
        ("sentence1,sentence2,score\n", "no pair"),
        ("a,b\n", "Line 1 of the pairs holds no two texts"),
        ("a,b,1\nc,d,much\n", "Line 2 .* no number"),
        ("a,b,nan\n", "no number"),
        ("{", "Line 1 of the pairs is no JSON"),
        ("[1, 2, 3]", "no two texts"),
        ('{"sentence1": "a"}', "no two texts"),
        ('"a', "no two texts"),
    ],
)
def test_what_holds_no_pair(text: str, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        pairs.of_file(text)


def test_the_correlation_is_scipys_and_the_difference_is_that_of_the_same_pairs() -> None:
    random = np.random.default_rng(3)
    gold = np.round(random.normal(size=120), 1)
    near = gold + random.normal(size=120)
    rows: dict[str, Any] = {
        "fp32": near,
        "bf16": near + 1e-3 * random.normal(size=120),
        "int2": random.normal(size=120),
    }
    rows["broken"] = np.full(120, np.nan)
    found = correlations(gold.tolist(), rows, "fp32")
    assert set(found) == {"fp32", "bf16", "int2"}
    for name, (own, change) in found.items():
        assert own.value == pytest.approx(stats.spearmanr(rows[name], gold).statistic)
        assert own.low is not None and own.high is not None and own.low <= own.value <= own.high
        assert change.value == pytest.approx(own.value - found["fp32"][0].value)
    own, change = found["bf16"]
    assert change.high is not None and change.low is not None and own.high is not None and own.low is not None
    assert change.high - change.low < 0.05 * (own.high - own.low)
    assert found["fp32"][1].low == found["fp32"][1].high == 0
    assert correlations(gold[:5].tolist(), {"fp32": near[:5]}, "fp32")["fp32"][0].low is None
    assert np.isnan(spearman(np.ones((1, 3)), np.ones((1, 3)))).all()


@pytest.mark.parametrize(
    ("change", "state"),
    [((0.0, -0.002, 0.002), "within"), ((-0.1, -0.2, -0.05), "outside"), ((-0.005, -0.02, 0.01), "")],
)
def test_what_is_lost_is_judged(change: tuple[float, float, float], state: str) -> None:
    value, low, high = change
    found = embedded(0.002)
    row = replace(found.candidates["bf16"], correlation_change=Estimate(value, None, 90, "", low, high, 90))
    said = verdict(replace(found, candidates=found.candidates | {"bf16": row}), "bf16", Margin(2, 1))
    assert said.state == (state or "inconclusive")
    assert "rank correlation with the scores of 90 pairs" in said.sentence
    if not state:  # 0.015 beyond its value and 0.005 from the margin: nine times as many
        assert "about 810 pairs would decide" in said.sentence
    assert MARGIN.correlation == 0.01


def test_a_request_without_pairs_keeps_its_key() -> None:
    plain = EmbeddingsRequest("docstring-vectors")
    assert key_of(plain) != key_of(EmbeddingsRequest("docstring-vectors", pairs=TWO))


def test_pairs_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Ten pairs, the cosines of each in FP32 as plain embedding of both gives them."""
    words = ("Open a file", "Close a socket", "Sort a list", "Raise an error", "Parse a date")
    each = [(one, other, len(set(one) & set(other))) for place, one in enumerate(words) for other in words[place + 1 :]]
    path = tmp_path / "pairs.jsonl"
    path.write_text("\n".join(map(json.dumps, each)))
    own = ["embed", "docstring-vectors", "--precision", "bf16", "--quiet", "--no-store"]
    with pytest.raises(SystemExit, match="0"):
        cli.main([*own, "--pairs", str(path), "--json"])
    found = json.loads(capsys.readouterr().out)
    with pytest.raises(SystemExit, match="0"):
        cli.main([*own, "--json", "--query", words[0], *(part for word in words[1:] for part in ("--text", word))])
    near = json.loads(capsys.readouterr().out)["reference"]["similarity"]
    cosines = [near[words.index(one)][words.index(other)] for one, other, _ in each]
    expected = stats.spearmanr(cosines, [score for *_, score in each]).statistic
    assert found["reference"]["correlation"]["value"] == pytest.approx(expected, abs=1e-6)
    assert found["candidates"]["bf16"]["correlation_change"]["n"] == 10
    with pytest.raises(SystemExit, match="0"):
        cli.main([*own, "--pairs", str(path)])
    assert "Spearman's ρ of cosine and score, 10 pairs" in capsys.readouterr().out
