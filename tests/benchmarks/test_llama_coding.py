"""llama.cpp's coding, imitated: what it keeps, what it drops, and how little that is."""

import math

import numpy as np
import pytest

from benchmarks.llama_coding import CODES, SPAN, Table, coded, log_softmax


def test_codes_are_within_half_a_step() -> None:
    logits = np.random.default_rng(0).normal(0, 2, (50, 300)).astype(np.float32).astype(np.float64)
    step = (logits.max(1) - logits.min(1)) / CODES
    apart = np.abs(coded(logits) - log_softmax(logits)).max(1)
    assert (apart <= step / 2 + 1e-6).all()
    assert (apart > step / 4).all(), "a coding that changes nothing was not imitated"


def test_what_is_16_below_the_largest_is_all_the_same() -> None:
    logits = np.array([[0.0, -5.0, -17.0, -40.0]])
    found = coded(logits)[0]
    assert found[2] == found[3] == pytest.approx(-SPAN + log_softmax(logits)[0, 0], abs=1e-6)
    assert found[:2] == pytest.approx(log_softmax(logits)[0, :2], abs=SPAN / CODES)


def test_the_table_by_hand() -> None:
    log_p, log_q = (np.log(np.array([row, [0.25, 0.75]])) for row in ([0.5, 0.5], [0.25, 0.75]))
    table = Table(drop=True)
    table.add(log_p, log_q, np.array([0, 0]))
    rows = table.rows()
    divergence = 0.5 * math.log(2) + 0.5 * math.log(0.5 / 0.75)
    assert rows["KLD"] == pytest.approx(divergence / 2)
    assert rows["KLD max"] == pytest.approx(divergence) and rows["KLD min"] == 0
    assert rows["PPL"] == pytest.approx(4)
    assert rows["ln ratio"] == pytest.approx(math.log(2) / 2)
    assert rows["ln ratio ±"] == pytest.approx(math.log(2) / 2)  # √((mean x² − mean² x)/(n − 1))
    assert rows["RMS Δp %"] == pytest.approx(25 / math.sqrt(2))
    assert rows["same top %"] == 50  # of two equal ones the first


def test_small_probabilities_are_dropped_only_where_asked() -> None:
    log_p, log_q = np.array([[0.0, -17.0]]), np.array([[0.0, -1.0]])
    kept, dropped = Table(drop=False), Table(drop=True)
    for table in (kept, dropped):
        table.add(log_p, log_q, np.array([0]))
        table.add(log_p, log_q, np.array([0]))
    assert dropped.rows()["KLD"] == 0
    assert kept.rows()["KLD"] == pytest.approx(-16 * math.exp(-17))
