"""Roundings and bit streams, for every input of which there are few enough, and at random."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from qfund.checkpoints.wild.packed.arithmetic import number, rounded, unpack


@given(arrays(np.float32, 40, elements=st.floats(width=32)), st.sampled_from([1.0, 1e-4, 1e-7]))
def test_float16_is_as_numpy_casts(given_values: Any, size: float) -> None:
    with np.errstate(all="ignore"):
        scaled = np.asarray(given_values * np.float32(size), np.float32)
        np.testing.assert_array_equal(rounded(scaled, "F16"), scaled.astype(np.float16).astype(np.float32))


def test_every_half_and_what_lies_between_two() -> None:
    halves: Any = np.arange(2**16, dtype=np.uint16).view(np.float16).astype(np.float32)
    halves = np.sort(halves[np.isfinite(halves)])
    middle = (halves[1:] + halves[:-1]) / 2
    for values in (halves, middle, np.nextafter(middle, np.float32(9e9)), np.nextafter(middle, np.float32(-9e9))):
        np.testing.assert_array_equal(
            rounded(np.asarray(values, np.float32), "F16"), values.astype(np.float16).astype(np.float32)
        )


@pytest.mark.parametrize("bits", range(1, 9))
@given(data=st.data())
def test_streams_of_codes(bits: int, data: st.DataObject) -> None:
    codes = data.draw(st.lists(st.integers(0, 2**bits - 1), min_size=1, max_size=70))
    whole = sum(code << bits * place for place, code in enumerate(codes))
    words = np.frombuffer(whole.to_bytes(4 * -(-len(codes) * bits // 32), "little"), np.int32)
    assert unpack(words[None], bits, len(codes)).tolist() == [codes]


def test_floats_of_a_byte() -> None:
    import ml_dtypes

    for dtype in (ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2, ml_dtypes.float8_e8m0fnu):
        every = np.arange(256, dtype=np.uint8).view(dtype)
        np.testing.assert_array_equal(number(every), every.astype(np.float32))
