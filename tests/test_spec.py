import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qfund import spec as specs
from qfund.engine import key_of
from qfund.errors import InvalidSpec, UnknownName
from qfund.precisions import PRECISIONS
from qfund.spec import Spec, checked, from_query, to_query

TEXT = st.text(st.characters(codec="utf-8"), max_size=60)
SPECS = st.builds(
    Spec,
    model=st.text(string.ascii_letters + string.digits + "/._-", min_size=1, max_size=30),
    reference=st.sampled_from(list(PRECISIONS)),
    precisions=st.lists(st.sampled_from(list(PRECISIONS)), min_size=1, max_size=6).map(tuple),
    text=st.none() | TEXT,
    max_tokens=st.integers(1, specs.MAX_TOKENS),
    context=st.none() | st.integers(2, 131_072),
    revision=st.none() | st.text(string.ascii_letters, min_size=1, max_size=10),
).map(checked)
DEFAULT = checked(Spec("somewhere/else", "bf16", ("int8",), "other text", 77, 12, "main"))


@given(SPECS)
def test_json_is_an_identity(spec: Spec) -> None:
    assert specs.from_json(specs.to_json(spec)) == spec


@given(SPECS)
def test_a_link_names_everything_whatever_the_defaults(spec: Spec) -> None:
    query = to_query(spec)
    if spec.text is None:  # absent means None: the default's text must not leak into a link that has none
        assert "text" not in query
    default = Spec("x") if spec.text is None else DEFAULT
    assert from_query(query, default) == (spec, [])


@given(SPECS, SPECS)
def test_equal_specs_of_equal_weights_and_only_they_share_a_key(one: Spec, other: Spec) -> None:
    key = key_of(one, lambda spec: "m")
    assert (key == key_of(other, lambda spec: "m")) == (one == other)
    assert key != key_of(one, lambda spec: "n")


def test_order_and_repeats_of_candidates_do_not_matter() -> None:
    one = checked(Spec("m", precisions=("int8", "bf16", "int8")))
    assert one.precisions == ("bf16", "int8")
    assert one == checked(Spec("m", precisions=("bf16", "int8")))


@pytest.mark.parametrize(
    "wrong",
    [
        Spec(""),
        Spec("a\0b"),
        Spec("m", precisions=()),
        Spec("m", max_tokens=0),
        Spec("m", context=1),
        Spec("m", text="x" * (specs.MAX_TEXT + 1)),
    ],
)
def test_values_out_of_range_are_refused_with_a_remedy(wrong: Spec) -> None:
    with pytest.raises(InvalidSpec) as caught:
        checked(wrong)
    assert caught.value.remedy


def test_an_unknown_precision_names_the_closest_and_all() -> None:
    with pytest.raises(UnknownName) as caught:
        checked(Spec("m", precisions=("bf61",)))
    said = str(caught.value)
    assert said.startswith("Unknown precision 'bf61'. Did you mean: bf16? The closest: bf16, ")
    assert said.endswith(" `qfund ls precisions` lists all.")


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ({"colour": ["red"]}, "unknown link parameter: colour"),
        ({"v": ["99"]}, "version '99'"),
        ({"p": ["int8", "int9"]}, "'int9'"),
        ({"ref": ["fp33"]}, "ref='fp33'"),
        ({"tokens": ["many"]}, "tokens='many'"),
        ({"tokens": ["0"]}, "tokens='0'"),
        ({"context": ["-3"]}, "context='-3'"),
        ({"tokens": ["９"]}, "tokens='９'"),
    ],
)
def test_what_a_link_gets_wrong_is_said_and_the_rest_kept(query: dict[str, list[str]], said: str) -> None:
    found, problems = from_query({"model": ["dummy"], **query}, Spec("x"))
    assert found.model == "dummy"
    assert len(problems) == 1 and said in problems[0]


@given(st.dictionaries(st.text(max_size=8), st.lists(st.text(max_size=20), max_size=3), max_size=8))
def test_no_query_raises(query: dict[str, list[str]]) -> None:
    found, problems = from_query(query, Spec("x"))
    assert checked(found) == found
    assert all(isinstance(problem, str) for problem in problems)


@given(st.binary(max_size=60))
def test_no_document_raises_anything_else(document: bytes) -> None:
    with pytest.raises(InvalidSpec):
        specs.from_json(document)
