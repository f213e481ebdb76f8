"""The pages Linear quantiser and Number formats without a browser: links, choices, and whatever goes wrong."""

import json
import math
import struct
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import streamlit as st
import torch
from hypothesis import given, settings
from hypothesis import strategies as some
from streamlit.testing.v1 import AppTest

from qfund.checkpoints.weights import Part
from qfund.core.errors import InvalidInput
from qfund.features.formats import link as formats_link
from qfund.features.formats.request.formats import FORMATS
from qfund.features.formats.request.rounding import decode, encode
from qfund.features.formats.view import bits as bits_view
from qfund.features.formats.view import number_bits
from qfund.features.quantizer import link
from qfund.features.quantizer import words as quantizer_words
from qfund.features.quantizer.link import COURSE, Asked
from qfund.features.quantizer.request import linear, matrices
from qfund.features.quantizer.request.linear import BITS, CONVENTIONS, GRANULARITIES, Scheme
from qfund.features.quantizer.view import maps, packing
from qfund.features.quantizer.view import page as page_view
from qfund.features.quantizer.view.maps import Drawn
from qfund.ui import services
from tests.checkpoints.test_weights import save
from tests.ui import pages
from tests.ui.pages import query

QUANTIZER, FORMATS_PAGE = "pages/quantiser.py", "pages/formats.py"


@pytest.fixture(autouse=True)
def no_jobs(page_server: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(services, "jobs", lambda: pytest.fail("these pages start no job"))


Open = Callable[..., AppTest]


@pytest.fixture
def opened() -> Open:
    def run(page: str, **query: str | list[str]) -> AppTest:
        return pages.opened(page, query)

    return run


texts = partial(pages.texts, more=("metric",))


def control(at: AppTest, kind: str, key: str) -> Any:
    [found] = [element for element in at.get(kind) if element.key == key]
    return found


# ── the quantiser ──


def test_the_page_opens_on_the_courses_matrix(opened: Open) -> None:
    at = opened(QUANTIZER)
    assert query(at) == link.to_query(Asked())
    said = texts(at)
    assert "Scale: 3.5788" in said and "Zero-point: −77" in said and "Mean squared error: 1.573" in said
    assert "9 B of packed codes + 4 B of scales (float32) + 1 B of zero-points" in said
    assert not at.error


def test_the_courses_first_try_is_one_click_away(opened: Open) -> None:
    at = opened(QUANTIZER, bits="4", per="channel")
    at.button(key="quantiser_first_try").click().run()
    assert not at.exception
    said = texts(at)
    assert "Scale: 3.5" in said and "Zero-point: −70" in said and "Mean squared error: 170.88" in said
    assert "Clipped: 1" in said
    assert query(at) == link.to_query(COURSE)
    at.selectbox(key="quantiser_granularity").select("channel").run()
    assert "s" not in query(at), "of another scheme, the rule chooses again"


@pytest.mark.parametrize("granularity", sorted(GRANULARITIES))
@pytest.mark.parametrize("mapping", ["symmetric", "asymmetric"])
def test_every_scheme_is_drawn_on_real_weights(opened: Open, granularity: str, mapping: str) -> None:
    asked = {"source": "model", "per": granularity, "mapping": mapping, "bits": "4", "as": "course", "cell": "5,70"}
    at = opened(QUANTIZER, **asked)
    assert not at.error and all(query(at)[name] == [value] for name, value in asked.items())
    assert "stored in F32: a tile of 256 × 256 from row 0, column 0, 256 KiB" in texts(at)
    assert "32,768 B of packed codes" in texts(at)


def test_a_typed_matrix(opened: Open) -> None:
    at = opened(QUANTIZER, source="typed", matrix="1 2;3 4", bits="2")
    assert at.text_area(key="quantiser_text").value == "1 2\n3 4" and not at.error
    assert "[1, 0, 3, 2] in 2 bits: 10110001 in binary, which is 177" in texts(at)
    at.text_area(key="quantiser_text").input("1 2\n3").run()
    assert not at.exception and "Row 2 has 1 number, row 1 has 2 numbers" in at.error[0].value
    assert at.text_area(key="quantiser_text").value == "1 2\n3", "nothing is lost"
    at.text_area(key="quantiser_text").input("1 nan").run()
    assert not at.exception and "NaN" in at.error[0].value
    at.text_area(key="quantiser_text").input("0 0\n0 0").run()
    assert not at.exception and not at.error and "SQNR: none" in texts(at) and "Every weight here is zero" in texts(at)
    at.text_area(key="quantiser_text").input("7").run()
    assert not at.exception and not at.error and "Every weight here is 7" in texts(at)
    at.text_area(key="quantiser_text").input("\n".join(["12345.6789 " * 100] * 3)).run()
    assert not at.error and "matrix" not in query(at) and "too long for a link" in texts(at)


def test_a_model_that_cannot_be_read_is_told_and_the_choice_stays(opened: Open, tmp_path: Path) -> None:
    at = opened(QUANTIZER, source="model", model="pydoc-lama")
    assert "pydoc-llama" in at.error[0].value.replace("\\", "")
    assert at.selectbox(key="quantiser_model").value == "pydoc-lama"
    at = opened(QUANTIZER, source="model", model="owner/name")
    assert "not on this machine yet" in at.error[0].value.replace("\\", "")
    at = opened(QUANTIZER, source="model", tensor="nothing", per="g32")
    assert "nothing" in at.error[0].value
    at = opened(QUANTIZER, source="model", row="5000")
    assert not at.exception
    broken = torch.ones(4, 4)
    broken[1, 2] = math.nan
    folder = save(tmp_path / "m", {"good": torch.eye(300), "w": broken})
    at = opened(QUANTIZER, source="model", model=folder, tensor="w")
    assert "[1, 2] (row and column, from 0) is not a number" in at.error[0].value.replace("\\", "")
    at.selectbox(key="quantiser_tensor").select("good").run()
    assert not at.exception and not at.error
    at.number_input(key="quantiser_row").set_value(260).run()
    assert not at.exception and "a tile of 40 × 256 from row 260" in texts(at)
    at.selectbox(key="quantiser_model").select("dummy").run()
    assert not at.error and query(at)["tensor"] == ["linear_1.weight"] and query(at)["row"] == ["0"]


def test_group_that_does_not_divide_is_told(opened: Open) -> None:
    at = opened(QUANTIZER, per="g128")
    assert "3 columns are no multiple of 128: a row is one group of 3" in texts(at) and not at.error


def test_what_a_link_gets_wrong_is_told(opened: Open) -> None:
    at = opened(QUANTIZER, bits="9", s="0", z="900", cell="a,b", foo="1", source="web", matrix="1 2", **{"as": "mine"})
    said = at.warning[0].value.replace("\\", "")
    for part in ("bits='9'", "s='0'", "z='900'", "cell='a,b'", "foo", "source='web'", "as='mine'"):
        assert part in said
    at = opened(QUANTIZER, s="nan", per="channel", z="3")
    assert "only a whole tensor" in at.warning[0].value and "s='nan'" in at.warning[0].value
    at = opened(QUANTIZER, z="100", bits="4", s="2")
    assert "no 4-bit integer" in at.warning[0].value.replace("\\", "") and "Scale: 2" in texts(at)


def test_a_move_belongs_to_what_it_was_made_on(monkeypatch: pytest.MonkeyPatch) -> None:
    class Moved:
        move: Any = None

    state: dict[str, Any] = {maps.KEY: Moved, "quantiser_asked": Asked(), page_view._SHOWN: "this"}
    monkeypatch.setattr(st, "session_state", state)
    for name, scale in (("that", None), ("this", 3.5)):
        Moved.move = {"id": name, "scale": 3.5, "zero": -70, "cell": [0, 0], "serial": 4, "done": False}
        page_view._moved()
        assert state["quantiser_asked"].scale == scale and state[page_view._SERIAL] == 4
    Moved.move = {"id": "this", "scale": 0, "zero": -70, "serial": 5}
    page_view._moved()
    assert state["quantiser_asked"].scale == 3.5 and "not positive" in str(state[page_view._PROBLEM])


def moved(monkeypatch: pytest.MonkeyPatch, asked: Asked, **move: Any) -> Asked:
    return page_view._after(move, asked)


def test_moves_of_the_sliders(monkeypatch: pytest.MonkeyPatch) -> None:
    after = moved(monkeypatch, Asked(), scale=3.5, zero=-70, cell=[1, 2])
    assert (after.scale, after.zero_point, after.cell) == (3.5, -70, (1, 2))
    assert moved(monkeypatch, after, scale=None, zero=None).scale is None
    assert moved(monkeypatch, after, scale=9, zero=-70, cell=["x", -1]).cell == (1, 2)
    rows = replace(Asked(), scheme=Scheme(granularity="channel"))
    assert moved(monkeypatch, rows, scale=3, zero=1, cell=[2, 2]) == replace(rows, cell=(2, 2))


@pytest.mark.parametrize(
    ("scale", "zero"), [(0, 0), (-1, 0), (math.nan, 0), ("x", 0), (1e300, 0), (None, 3), (1, 128), (1, 0.5), (1, None)]
)
def test_moves_to_what_cannot_be_are_refused(monkeypatch: pytest.MonkeyPatch, scale: Any, zero: Any) -> None:
    with pytest.raises(InvalidInput) as caught:
        moved(monkeypatch, Asked(), scale=scale, zero=zero)
    assert caught.value.remedy


_ASKED = some.builds(
    Asked,
    source=some.sampled_from(["course", "typed"]),
    text=some.sampled_from(["1 2\n3 4", "0.5", "-1e-3 2\n3 4"]),
    scheme=some.builds(
        Scheme,
        bits=some.sampled_from(BITS),
        symmetric=some.booleans(),
        granularity=some.sampled_from(sorted(GRANULARITIES)),
        convention=some.sampled_from(sorted(CONVENTIONS)),
    ),
    scale=some.none() | some.floats(1e-30, 1e30),
    zero_point=some.none() | some.integers(-2, 1),
    cell=some.tuples(some.integers(0, 999), some.integers(0, 999)),
)


@settings(deadline=None)
@given(asked=_ASKED)
def test_a_link_holds_every_choice(asked: Asked) -> None:
    if asked.scheme.granularity != "tensor":
        asked = replace(asked, scale=None, zero_point=None)
    if asked.scheme.symmetric:
        asked = replace(asked, zero_point=None)
    found, problems = link.from_query(link.to_query(asked))
    assert not problems and link.to_query(found) == link.to_query(asked)
    assert (found.scheme, found.scale, found.zero_point, found.cell) == (
        asked.scheme,
        asked.scale,
        asked.zero_point,
        asked.cell,
    )


def test_links_to_weights_come_back() -> None:
    part = Part("owner/name", "v1", "a.b", True, 7, 9)
    asked = Asked(source="model", part=part)
    assert link.from_query(link.to_query(asked)) == (asked, [])
    shown = formats_link.Asked("fp8_e4m3", 0x7E, "66246", part, "raw", "weights")
    assert formats_link.from_query(formats_link.to_query(shown)) == (shown, [])


# ── what the browser gets ──


def drawn(weight: linear.Floats, scheme: Scheme, cell: tuple[int, int] = (0, 0)) -> tuple[Drawn, Any]:
    used = linear.choose(weight, scheme)
    codes, _ = linear.quantize(weight, used, scheme)
    values = linear.dequantize(codes, used, scheme)
    words = quantizer_words.formulas(weight, codes, values, used, scheme, cell, False)
    return Drawn(weight, codes, used, used, scheme, (0, 0), cell, False, words, 3, "id"), values


def unpacked(data: bytes) -> tuple[dict[str, Any], list[Any]]:
    """As the component's JavaScript reads it, with (q − z) · s rounded to float32 once."""
    length = struct.unpack_from("<I", data)[0]
    head = json.loads(data[4 : 4 + length])
    count, at, found = head["rows"] * head["columns"], 4 + length, []
    for kind, size in (("<f4", count), ("<f4", head["parts"]), ("<i4", head["parts"]), ("i1", count)):
        assert at % np.dtype(kind).itemsize == 0
        found.append(np.frombuffer(data, kind, size, at))
        at += found[-1].nbytes
    assert at == len(data)
    return head, found


@pytest.mark.parametrize("granularity", sorted(GRANULARITIES))
@pytest.mark.parametrize("shape", [(3, 3), (7, 100), (600, 1030)])
def test_the_browser_draws_the_numbers_of_python(granularity: str, shape: tuple[int, int]) -> None:
    weight = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
    made, values = drawn(weight, Scheme(4, False, granularity), (2, 1))
    head, (weights, scales, zeros, codes) = unpacked(maps.payload(made))
    every_row, every = head["everyRow"], head["every"]
    assert head["rows"] <= 256 and head["columns"] <= 256 and len(maps.payload(made)) < 1_500_000
    np.testing.assert_array_equal(weights, weight[::every_row, ::every].ravel())
    per_row = head["parts"] // head["rows"]
    for place in range(0, len(codes), 7):
        row, column = divmod(place, head["columns"])
        part = 0 if head["parts"] == 1 else row * per_row + column * every // head["size"]
        value = np.float32((float(codes[place]) - zeros[part]) * float(scales[part]))
        assert value == values[row * every_row, column * every]


def test_the_histogram_counts_every_weight_that_shares_the_scale() -> None:
    weight = np.random.default_rng(2).standard_normal((8, 100)).astype(np.float32)
    for granularity, count in (("tensor", 800), ("channel", 100), ("g32", 4)):
        made, _ = drawn(weight, Scheme(3, False, granularity), (2, 98))
        found: Any = maps.histogram(made)
        assert sum(found["counts"]) == sum(found["landed"]) == count and len(found["grid"]) == 8
        assert f"{count} weights" in found["title"] and found["low"] < found["high"]
    made, _ = drawn(np.full((2, 2), 3, np.float32), Scheme())
    assert maps.histogram(made)["low"] == 1.5


@pytest.mark.parametrize("bits", BITS)
def test_packed_bytes_are_shown(bits: int) -> None:
    made, _ = drawn(np.linspace(-1, 1, 16, dtype=np.float32).reshape(1, 16), Scheme(bits))
    counted = linear.unsigned(made.codes[:, :8], made.scheme)
    html = packing._steps(made.codes[:, :8], counted, made.scheme)
    if bits in (2, 4):
        for byte in linear.pack(counted, bits)[0]:
            assert f" = {int(byte)}<" in html


# ── number formats ──


def test_the_formats_page_opens_on_a_third(opened: Open) -> None:
    at = opened(FORMATS_PAGE)
    assert query(at)["bits"] == ["0x3555"] and query(at)["number"] == ["1/3"]
    said = texts(at)
    assert "0.333333343267440795898437500000" in said and "Value: 0.333251953" in said and "Kind: normal" in said
    assert len(at.dataframe) == 1 and not at.error
    for section, tables in (("ranges", 1), ("weights", 1)):
        at = opened(FORMATS_PAGE, section=section)
        assert len(at.get("plotly_chart")) == 1 and len(at.dataframe) == tables and not at.error
        assert query(at)["section"] == [section]


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_every_format_and_landmark_is_drawn(opened: Open, name: str) -> None:
    at = opened(FORMATS_PAGE, format=name)
    for button in [str(button.key) for button in at.button if str(button.key).startswith("formats_to_")]:
        at.button(key=button).click().run()
        assert not at.exception and not at.error
        wanted = {"Largest": FORMATS[name].largest, "Smallest subnormal": FORMATS[name].smallest}
        if (landmark := button.removeprefix("formats_to_")) in wanted:
            assert decode(FORMATS[name], int(query(at)["bits"][0], 16)).value == wanted[landmark]
    at.button(key="formats_up").click().run()
    at.button(key="formats_down").click().run()
    assert not at.exception


def test_the_number_stays_when_the_format_changes(opened: Open) -> None:
    at = opened(FORMATS_PAGE, format="fp32", number="66246")
    assert query(at)["bits"] == ["0x47816300"]
    control(at, "button_group", "formats_format").set_value("bf16").run()
    assert not at.exception
    assert query(at)["format"] == ["bf16"] and "Value: 66048" in texts(at)
    at.text_input(key="formats_number").input("2^-24").run()
    at.button(key="formats_into_bits").click().run()
    assert query(at)["bits"] == ["0x3380"] and query(at)["number"] == ["2^-24"]


def test_bad_numbers_are_told_and_stay(opened: Open) -> None:
    at = opened(FORMATS_PAGE)
    cases = {"1/0": "divides by zero", "ten": "is no number", "1e99999": "too far out", "": "No number"}
    for text, said in cases.items():
        at.text_input(key="formats_number").input(text).run()
        assert not at.exception and said in at.error[0].value.replace("\\", "")
        assert at.text_input(key="formats_number").value == text and query(at)["number"] == ["1/3"]
    at.button(key="formats_example_66246").click().run()
    assert not at.error and "held at 448" in at.dataframe[0].value["happened"].tolist()[5]


def test_what_a_formats_link_gets_wrong_is_told(opened: Open) -> None:
    wrong = {"format": "fp61", "bits": "0xFFFFF", "number": "x", "scaling": "none", "foo": "1"}
    at = opened(FORMATS_PAGE, column="-1", part="half", **wrong)
    said = at.warning[0].value.replace("\\", "")
    for part in ("format='fp61'", "bits='0xFFFFF'", "FP16, which has 16 bits", "number='x'", "scaling='none'", "foo"):
        assert part in said
    assert "column='-1'" in said and "part='half'" in said


def test_weights_with_infinities_are_counted_apart(opened: Open, tmp_path: Path) -> None:
    odd = torch.ones(4, 4)
    odd[0, 0], odd[3, 3] = math.inf, math.nan
    at = opened(FORMATS_PAGE, model=save(tmp_path / "m", {"w": odd}), scaling="raw", section="weights")
    assert "2 weights are not finite" in texts(at) and not at.error
    at = opened(FORMATS_PAGE, model="nobody/nothing", section="weights")
    assert "not on this machine yet" in at.error[0].value and not at.get("plotly_chart")


@pytest.mark.parametrize("row", FORMATS.values(), ids=lambda row: row.name)
def test_steps_walk_through_all_values_in_order(row: Any) -> None:
    code = encode(row, row.lowest)
    assert code is not None
    value, count = decode(row, code).value, 1
    while row.bits <= 8 and (following := bits_view._next(row, code, 1)) != code:
        assert decode(row, following).value > value and bits_view._next(row, following, -1) == code
        code, value, count = following, decode(row, following).value, count + 1
    assert row.bits > 8 or count == row.finite + row.infinite
    assert bits_view.formula(row, code)


@pytest.mark.parametrize("row", FORMATS.values(), ids=lambda row: row.name)
def test_fields_hold_every_bit(row: Any) -> None:
    for code in {0, 1, row.codes // 2, row.codes - 1, row.codes // 3}:
        found = number_bits.fields(row, code)
        assert int("".join(str(field["bits"]) for field in found), 2) == code
        assert all(field["says"] for field in found)
        bits_view.formula(row, code)


def test_a_clicked_bit_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    class Clicked:
        bits: Any = None

    monkeypatch.setattr(st, "session_state", {number_bits.KEY: Clicked})
    malformed: tuple[Any, ...] = (None, {}, {"format": "fp16", "bits": "012"}, {"format": 3, "bits": "1"})
    for found in (*malformed, {"format": "x", "bits": "1" * 65}):
        Clicked.bits = found
        assert number_bits.turned_to() is None
    Clicked.bits = {"format": "fp16", "bits": "0011"}
    assert number_bits.turned_to() == ("fp16", 3)


def test_the_courses_matrix_is_the_courses() -> None:
    rows = [[191.6, -13.5, 728.6], [92.14, 295.5, -184], [0, 684.6, 245.5]]
    assert matrices.COURSE.tolist() == torch.tensor(rows).tolist()
