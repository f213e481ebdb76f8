import string
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qfund.core.errors import InvalidSpec, UnknownName
from qfund.engine import key_of
from qfund.features.compare.request import spec as spec_request
from qfund.features.compare.request.decision import Margin
from qfund.features.compare.request.link import from_query, to_query
from qfund.features.compare.request.spec import Spec, checked, like_llama_cpp
from qfund.inputs import texts as inputs_texts
from qfund.inputs.texts import ALL, SECOND_HALF, NamedText
from qfund.precisions import request
from qfund.precisions.table import PRECISIONS

TEXT = st.text(st.characters(codec="utf-8"), max_size=60)
NAMES = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20).filter(str.strip)


def _scored(spec: Spec, stride: int | None, scoring: str) -> Spec:
    """Only together with what goes with it."""
    if scoring == SECOND_HALF:
        return replace(spec, scoring=scoring)
    return replace(spec, stride=None if stride is None else min(stride, spec.context or stride))


SPECS = st.builds(
    Spec,
    model=st.text(string.ascii_letters + string.digits + "/._-", min_size=1, max_size=30),
    reference=st.sampled_from(list(PRECISIONS)),
    precisions=st.lists(st.sampled_from(list(PRECISIONS)), min_size=1, max_size=6).map(tuple),
    text=st.none() | TEXT,
    max_tokens=st.integers(1, spec_request.MAX_TOKENS),
    context=st.none() | st.integers(2, 131_072),
    revision=st.none() | st.text(string.ascii_letters, min_size=1, max_size=10),
    also=st.lists(st.sampled_from(list(request.ALSO))).map(tuple),
    libraries=st.booleans(),
    kv=st.lists(st.sampled_from(["q8_0", "fp8/q4_0", "int4_kivi"]), unique=True).map(tuple),
)
SPECS = st.builds(_scored, SPECS, st.none() | st.integers(1, 131_072), st.sampled_from(list(inputs_texts.SCORINGS)))
SPECS = st.builds(
    lambda spec, texts: replace(spec, texts=() if spec.text is not None else tuple(texts)),
    SPECS,
    st.lists(st.builds(NamedText, NAMES, TEXT), max_size=4, unique_by=lambda named: named.name),
)
SHARES = st.none() | st.floats(0, 2)
UNTIL = st.none() | st.builds(Margin, SHARES, SHARES, SHARES, SHARES)
SPECS = st.builds(lambda spec, until: replace(spec, until=until), SPECS, UNTIL)
SPECS = SPECS.filter(lambda spec: set(spec.precisions) != {"stored"} or spec.reference == "stored").map(checked)
DEFAULT = checked(Spec("somewhere/else", "bf16", ("int8",), "other text", 77, 12, "main", stride=5))
FOLDER = checked(replace(DEFAULT, text=None, texts=(NamedText("a.txt", "A text."),)))


@given(SPECS)
def test_json_is_an_identity(spec: Spec) -> None:
    assert spec_request.from_json(spec_request.to_json(spec)) == spec


@given(SPECS)
def test_a_link_names_everything_whatever_the_defaults(spec: Spec) -> None:
    query = to_query(spec)
    if spec.text is None:  # absent means None: the default's text must not leak into a link that has none
        assert "text" not in query
    default = Spec("x") if spec.text is None else DEFAULT
    assert from_query(query, default) == (spec, [])
    assert from_query(query, FOLDER) == (spec, [])
    assert spec.texts or not {"file", "content"} & query.keys()


OLD = {
    "v": ["1"], "model": ["dummy"], "ref": ["fp32"], "rev": [""], "tokens": ["256"], "context": ["12"], "p": ["bf16"]
}  # fmt: skip


@pytest.mark.parametrize("default", [Spec("x"), replace(FOLDER, stride=None, scoring=SECOND_HALF), FOLDER])
def test_a_link_of_before_texts_strides_and_scorings_means_what_it_did(default: Spec) -> None:
    assert from_query(OLD, default) == (Spec("dummy", precisions=("bf16",), max_tokens=256, context=12), [])
    assert to_query(Spec("dummy", precisions=("bf16",), max_tokens=256, context=12)) == OLD


def test_a_link_with_one_text_takes_the_place_of_several_and_the_other_way_round() -> None:
    assert from_query({"text": ["One."]}, FOLDER) == (replace(FOLDER, text="One.", texts=()), [])
    several = {"file": ["b", "a"], "content": ["B.", ""]}
    texts = (NamedText("a", ""), NamedText("b", "B."))
    assert from_query(several, DEFAULT) == (replace(DEFAULT, text=None, texts=texts), [])


def test_llama_cpps_positions_are_one_setting() -> None:
    """All of the text, in whole chunks, the second half of each."""
    asked = Spec("m", max_tokens=100, context=64, stride=32)
    assert checked(like_llama_cpp(asked)) == Spec(
        "m", max_tokens=spec_request.MAX_TOKENS, context=64, scoring=SECOND_HALF
    )
    assert Spec("m").scoring == ALL


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
        Spec("m", text="x" * (inputs_texts.MAX_TEXT + 1)),
        Spec("m", stride=0),
        Spec("m", context=8, stride=9),
        Spec("m", stride=spec_request.MAX_CONTEXT + 1),
        Spec("m", stride=8, scoring=SECOND_HALF),
        Spec("m", text="One.", texts=(NamedText("a", "Two."),)),
        Spec("m", texts=(NamedText("a", "One."), NamedText("a", "Two."))),
        Spec("m", texts=(NamedText(" ", "One."),)),
        Spec("m", texts=(NamedText("a" * (inputs_texts.MAX_NAME + 1), "One."),)),
        Spec("m", texts=tuple(NamedText(str(i), "x") for i in range(inputs_texts.MAX_TEXTS + 1))),
        Spec("m", texts=(NamedText("a", "x" * inputs_texts.MAX_TEXT), NamedText("b", "x"))),
    ],
)
def test_values_out_of_range_are_refused_with_a_remedy(wrong: Spec) -> None:
    with pytest.raises(InvalidSpec) as caught:
        checked(wrong)
    assert caught.value.remedy


def test_an_unknown_way_of_scoring_is_met_with_the_ways_there_are() -> None:
    with pytest.raises(UnknownName, match=r"Unknown way of scoring 'second'.*second-half"):
        checked(Spec("m", scoring="second"))


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
        ({"stride": ["some"]}, "stride='some'"),
        ({"stride": ["0"]}, "stride='0'"),
        ({"scoring": ["first-half"]}, "scoring='first-half'"),
        ({"file": ["a", "b"], "content": ["A."]}, "names 2 texts and holds 1"),
        ({"file": ["a", "a"], "content": ["A.", "B."]}, "Two texts have the same name"),
        ({"file": ["a"], "content": ["A."], "text": ["One."]}, "Both a text and several"),
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
        spec_request.from_json(document)
