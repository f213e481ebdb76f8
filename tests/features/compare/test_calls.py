"""The command line, the Python and the link that the page Compare shows ask for what is on the page."""

import shlex
from dataclasses import replace
from pathlib import Path

import pytest

from qfund import api
from qfund.commandline.parser import parse
from qfund.features.compare import link
from qfund.features.compare.command.printing import margin
from qfund.features.compare.request.decision import Margin
from qfund.features.compare.request.spec import Spec, checked
from qfund.features.compare.words import calls
from qfund.inputs.texts import SECOND_HALF, NamedText
from tests.features.compare.pages import CORPUS, FULL


def test_a_link_that_is_too_long_when_encoded_does_not_fit() -> None:
    assert link.fits(replace(FULL, text="x" * 4000))
    assert not link.fits(replace(FULL, text="語" * 1000))
    assert link.fits(replace(CORPUS, texts=(NamedText("a", "x" * 1999), NamedText("b", "x" * 1999))))
    assert not link.fits(replace(CORPUS, texts=(NamedText("a", "x" * 2000), NamedText("b", "x" * 2000))))
    assert not link.fits(replace(CORPUS, texts=(NamedText("a", "語" * 1000),)))


HARD = (
    FULL,
    replace(FULL, also=("head", "embeddings"), libraries=True),
    Spec("own/model", text="--json -x 'quoted' \n two lines", revision="v1.0"),
    Spec("/a folder/m"),
    replace(FULL, context=64, stride=9),
    Spec("m", scoring=SECOND_HALF),
)


@pytest.mark.parametrize("spec", HARD)
def test_the_command_line_that_is_shown_asks_for_the_same(spec: Spec) -> None:
    options = parse(shlex.split(calls.shell(spec))[1:])
    asked = Spec(
        options.model,
        options.reference,
        tuple(options.precision),
        options.text,
        options.max_tokens,
        options.context,
        options.revision,
        tuple(options.also),
        options.libraries,
        options.stride,
        options.scoring,
    )
    assert asked == spec


@pytest.mark.parametrize("spec", HARD)
def test_the_python_that_is_shown_asks_for_the_same(spec: Spec, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Spec] = []
    monkeypatch.setattr(api, "compute", lambda spec, **_: asked.append(spec))
    exec(calls.python(spec), {})
    assert asked == [spec]


def test_several_texts_are_shown_as_a_folder_of_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Spec] = []
    monkeypatch.setattr(api, "compute", lambda spec, **_: asked.append(spec))
    monkeypatch.chdir(tmp_path)
    (tmp_path / calls.FOLDER).mkdir()
    for named in CORPUS.texts:
        (tmp_path / calls.FOLDER / named.name).write_text(named.text, "utf-8")
    exec(calls.python(CORPUS), {})
    assert checked(asked[0]) == CORPUS
    words = shlex.split(calls.shell(CORPUS))
    assert words[words.index("--text-folder") + 1] == calls.FOLDER


@pytest.mark.parametrize("asked", [Margin(), Margin(0.07, 0.4, cosine=0.25), Margin(0.005)])
def test_the_command_that_is_shown_has_the_margin(asked: Margin) -> None:
    options = parse(shlex.split(calls.shell(Spec("dummy"), asked))[1:])
    assert margin(options) == asked


def test_a_margin_of_nothing_is_one_that_everything_is_within() -> None:
    options = parse(shlex.split(calls.shell(Spec("dummy"), Margin(None, None)))[1:])
    assert margin(options) == Margin(1.0, 1.0)
