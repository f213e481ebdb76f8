"""Lists of models as people write them."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qfund.core.errors import InvalidInput, InvalidSpec, QfundError, UnknownName
from qfund.features.compare.request.margin import Margin
from qfund.features.sweep.request import document
from qfund.features.sweep.request.sweep import Choices, Input

SHARED = Choices(precisions=("nf4",), max_tokens=64, margin=(("perplexity", 0.02), ("tokens", 0.03)))


def test_settings_of_a_model_go_before_those_of_the_list_and_these_before_options() -> None:
    one, two = document.read(
        """
        precisions: [int8, INT4]
        until_decided: yes
        models:
          - owner/name@v1.2
          - model: dummy
            precision: bf16
            max_tokens: 8k
            margin: {perplexity: 0.5, kl: 0.1}
            text: [one text, another]
        """,
        SHARED,
    )
    assert (one.model, one.revision, one.precisions, one.max_tokens) == ("owner/name", "v1.2", ("int8", "int4"), 64)
    assert one.until_decided and two.until_decided
    assert (two.precisions, two.max_tokens, two.revision) == (("bf16",), 8192, None)
    assert two.allowed == Margin(perplexity=0.005, tokens=0.03, kl=0.1)
    assert one.allowed == Margin(perplexity=0.02, tokens=0.03)
    assert two.inputs == (Input("one text", "one text"), Input("another", "another")) and one.inputs is None


def test_a_list_is_what_it_says_and_not_what_yaml_guesses() -> None:
    found = document.read("- model: 1e3\n- model: no\n- null", Choices())
    assert [each.model for each in found] == ["1e3", "no", "null"]


def test_a_model_a_line_and_what_somebody_pastes() -> None:
    text = "dummy  # the toy\n\n# none\n./folder\nowner/name@main\n"
    expected = [("dummy", None), ("./folder", None), ("owner/name", "main")]
    for found in (document.lines(text, SHARED), document.pasted(text, SHARED)):
        assert [(each.model, each.revision) for each in found] == expected
        assert all(each.precisions == ("nf4",) for each in found)
    assert document.pasted("- dummy", SHARED)[0].model == "dummy"
    assert document.pasted("models: [dummy]", SHARED)[0].model == "dummy"


def test_texts_of_files_are_read_only_where_a_list_may_name_them() -> None:
    text = "- {model: dummy, text_file: notes/a.txt}"
    (found,) = document.read(text, SHARED, lambda path: f"content of {path}")
    assert found.inputs == (Input("a.txt", f"content of {Path('notes/a.txt')}"),)
    with pytest.raises(InvalidSpec, match="names no files"):
        document.read(text, SHARED)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no list of models"),
        ("[]", "no list of models"),
        ("models: {}", "no list of models"),
        ("- precision: int8", "names no model"),
        ("- [dummy]", "is no model"),
        ("- {model: dummy, max_tokens: many}", "max_tokens of dummy is 'many'"),
        ("- {model: dummy, margin: {speed: 1}}", "margin of dummy"),
        ("- {model: dummy, margin: {kl: low}}", "margin of dummy"),
        ("- {model: dummy, libraries: perhaps}", "libraries of dummy"),
        ("- {model: dummy, precision: {int8: 1}}", "precision of dummy"),
        ("- {model: dummy, text: {a: b}}", "is no text"),
        ("a: &x [int8]\nmodels: [*x]", "alias of YAML"),
        ("- !!python/object/apply:os.system [true]", "is no model"),
        ("[[[", "is no YAML"),
        ("a: b: c", "is no YAML"),
        ("[" * 20_000, "list"),
        ("- x\n" * 3000, "3,000 models"),
        ("x" * 600_000, "600,000 characters"),
    ],
)
def test_a_list_that_is_none_says_what_is_wrong(text: str, said: str) -> None:
    with pytest.raises(InvalidSpec, match=said):
        document.read(text, SHARED)


def test_an_unknown_setting_says_which_is_meant() -> None:
    with pytest.raises(UnknownName, match="Did you mean: precision"):
        document.read("- {model: dummy, precison: int8}", SHARED)


@given(st.text(max_size=80))
def test_any_text_is_a_list_or_refused_in_a_sentence(text: str) -> None:
    for read in (document.read, document.pasted, document.lines):
        try:
            assert read(text, Choices())
        except QfundError as error:
            assert error.message and error.remedy


def test_a_folder_gives_its_checkpoints_and_nothing_inside_them(tmp_path: Path) -> None:
    for name in ("b", "a/owner", "a/owner/inside", ".hidden", "c/.cache/x"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "config.json").write_text("{}")
    found = document.folder(tmp_path, SHARED)
    assert [each.model for each in found] == [str(tmp_path / "a/owner"), str(tmp_path / "b")]
    (tmp_path / "empty").mkdir()
    with pytest.raises(InvalidSpec, match="0 checkpoints"):
        document.folder(tmp_path / "empty", SHARED)


def test_a_text_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    from qfund.commandline import texts

    with pytest.raises(InvalidInput, match="no such file"):
        document.read(f"- {{model: dummy, text_file: {tmp_path}/none.txt}}", SHARED, texts.read)
