"""What texts, classes and embeddings side by side come to: by hand. No torch."""

import math
from dataclasses import replace

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qfund.checkpoints import catalog
from qfund.core.errors import InvalidInput, InvalidSpec, QfundError, UnknownName
from qfund.features.outputs import tables as outputs_tables
from qfund.features.outputs import words as outputs_words
from qfund.features.outputs.request import classes, embeddings, generation
from qfund.features.outputs.request.classes import ClassesRequest
from qfund.features.outputs.request.embeddings import EmbeddingsRequest, kendall
from qfund.features.outputs.request.generation import (
    NOISE,
    NOT_FINITE,
    TIED,
    UNUSUAL,
    Candidate,
    Generation,
    GenerationRequest,
)
from qfund.inputs import prompts, pydoc_text
from tests.features.outputs.generations import make_classes, make_embeddings, make_generation, parted, written


def test_statistics_by_hand() -> None:
    found = generation.statistics(make_generation(), "int4")
    assert found is not None
    assert found.same.value == (4 + 2 + 0 + 4) / 4
    assert found.same.se == pytest.approx(math.sqrt((1.5**2 + 0.5**2 + 2.5**2 + 1.5**2) / 3 / 4))
    assert found.first is not None and (found.first.value, found.first.n) == ((3 + 1) / 2, 2)
    assert found.never.value == 0.5 and found.never.se == pytest.approx(math.sqrt(0.25 / 3))
    assert found.divergent.value == pytest.approx((0 + 1 / 4 + 4 / 4 + 0) / 4)
    assert found.kinds == {TIED: 1, UNUSUAL: 1} and found.damaged == 1
    assert found.noise == pytest.approx(0.2)


def test_nothing_diverges() -> None:
    found = generation.statistics(make_generation(), "bf16")
    assert found is not None
    assert (found.never.value, found.never.se, found.first, found.kinds) == (1.0, None, None, {})
    assert found.same.value == (4 + 4 + 2 + 4) / 4, "a text that never diverges counts with all its tokens"


def test_survival_by_hand() -> None:
    assert generation.survival(make_generation(), "int4") == (1.0, 0.75, 0.75, 0.5, 0.5)
    assert generation.survival(make_generation(), "bf16") == (1.0,) * 5, "one that ended stays the same"


@given(st.lists(st.integers(0, 5), min_size=1, max_size=20))
def test_survival_sums_to_the_mean_of_what_is_the_same(steps: list[int]) -> None:
    """Of texts of one length the mean number of same tokens is the area under the curve."""
    template = make_generation().examples[0]
    other = written(1, 2, 3, 9)
    examples = tuple(
        replace(
            template,
            candidates={"int4": Candidate(template.reference, None, None)}
            if step > 3
            else {"int4": Candidate(other, parted(step, 0.1), None)},
        )
        for step in steps
    )
    found = replace(make_generation(), examples=examples)
    statistics, curve = generation.statistics(found, "int4"), generation.survival(found, "int4")
    assert statistics is not None and statistics.same.value == pytest.approx(sum(curve[1:]))
    assert list(curve) == sorted(curve, reverse=True) and curve[0] == 1


def test_worst_first_is_the_clearest_preference_and_then_what_stays() -> None:
    assert generation.worst_first(make_generation(), "int4") == [2, 1, 0, 3]


@pytest.mark.parametrize(
    ("gap", "noise", "kind"),
    [(0.0, 0.0, TIED), (0.25, 9.0, TIED), (0.3, 0.15, NOISE), (0.31, 0.15, UNUSUAL), (None, None, NOT_FINITE)],
)
def test_a_tie_is_the_references_and_the_rest_is_damage(gap: float | None, noise: float | None, kind: str) -> None:
    row = parted(0, gap, noise)
    assert row.kind == kind
    assert ("tie" in outputs_words.verdict(row)) == (kind == TIED)


def test_a_reference_that_is_not_finite_is_left_out_and_counted() -> None:
    found = make_generation()
    broken = replace(found.examples[0], reference=written(ended="not finite"))
    some = replace(found, examples=(broken, *found.examples[1:]))
    statistics = generation.statistics(some, "int4")
    assert statistics is not None and statistics.same.n == 3
    assert "1 prompts whose reference is not finite" in outputs_words.how_written(some)
    none = replace(found, examples=(broken,))
    assert generation.statistics(none, "int4") is None and generation.survival(none, "int4") == ()
    assert "not finite" in outputs_words.candidate(none, "int4")


def test_words_say_what_happened() -> None:
    found = make_generation()
    assert outputs_words.candidate(found, "bf16") == "All 4 texts are the same, token by token."
    said = outputs_words.candidate(found, "int4")
    assert said == (
        "2 of 4 texts are the same to their end; 2 diverge: 1 at a tie, 1 where FP32 was decided "
        "(1 by an unusual error)."
    )
    row = found.examples[2].candidates["int4"].divergence
    assert row is not None
    told = outputs_words.divergence(row, "fp32", "int4")
    assert "At token 1 FP32 preferred “ a” (40.0 %) to “ b” (30.0 %) by 1.5 logits" in told
    assert "moved the difference of the two by 1.6" in told and "Damage" in told


def test_it_survives_json() -> None:
    found = make_generation()
    assert msgspec.json.decode(generation.to_json(found), type=Generation) == found


def test_tables_hold_every_prompt_and_candidate() -> None:
    found = make_generation()
    outcomes = outputs_tables.outcomes(found)
    assert outcomes.groupby("precision")["prompts"].sum().to_dict() == {"bf16": 4, "int4": 4}
    assert outputs_tables.examples(found, "int4")["Prompt"].tolist() == [3, 2, 1, 4]
    bars = outputs_tables.alternatives(found, 1, "int4")
    assert bars[bars["chosen"]]["piece"].tolist() == [" a", " b"]
    assert outputs_tables.alternatives(found, 0, "int4").empty


@pytest.mark.parametrize(
    ("changes", "error", "said"),
    [
        ({"model": " "}, InvalidSpec, "No model"),
        ({"precisions": ()}, InvalidSpec, "No candidate"),
        ({"precisions": ("bf17",)}, UnknownName, "bf16"),
        ({"also": ("heads",)}, UnknownName, "head"),
        ({"prompts": ()}, InvalidInput, "no prompt"),
        ({"prompts": ("a", " \n")}, InvalidInput, "Prompt 2 is empty"),
        ({"prompts": ("",)}, InvalidInput, "The prompt is empty"),
        ({"prompts": ("a",) * 513}, InvalidInput, "513 prompts"),
        ({"prompts": ("a" * 20_001,)}, InvalidInput, "20,001 characters"),
        ({"max_new_tokens": 0}, InvalidSpec, "max_new_tokens is 0"),
        ({"max_new_tokens": 9999}, InvalidSpec, "max_new_tokens"),
        ({"temperature": -1.0}, InvalidSpec, "temperature"),
        ({"temperature": math.nan}, InvalidSpec, "temperature"),
        ({"seed": -1}, InvalidSpec, "seed"),
        ({"stop": ("",)}, InvalidSpec, "stop"),
    ],
)
def test_bad_requests(changes: dict[str, object], error: type[QfundError], said: str) -> None:
    with pytest.raises(error, match=said):
        generation.checked(replace(GenerationRequest("dummy"), **changes))  # type: ignore[arg-type]


def test_requests_have_one_form() -> None:
    asked = GenerationRequest(" dummy", precisions=("int4", "bf16", "int4"), seed=7, revision="")
    assert generation.checked(asked) == GenerationRequest("dummy", precisions=("bf16", "int4"))
    assert generation.checked(generation.EXAMPLE) == generation.EXAMPLE
    assert embeddings.checked(embeddings.EXAMPLE) == embeddings.EXAMPLE
    with pytest.raises(UnknownName, match="mean"):
        embeddings.checked(EmbeddingsRequest("dummy", pooling="mena"))
    with pytest.raises(InvalidInput, match="The query is empty"):
        embeddings.checked(EmbeddingsRequest("dummy", query=""))
    with pytest.raises(InvalidInput, match="Text 2 is empty"):
        classes.checked(ClassesRequest("dummy", texts=("a", "")))


def test_the_projects_prompts_are_held_out_beginnings() -> None:
    found = prompts.held_out()
    assert len(found) >= 50 and len(set(found)) == len(found)
    assert all(prompt == prompt.strip() and prompt.startswith(("def ", "class ")) for prompt in found)
    text = pydoc_text.held_out_text(pydoc_text.read_manifest(catalog.CATALOG["pydoc-llama"].folder / "held_out.json"))
    assert all(prompt in text for prompt in found)
    assert found == prompts.held_out(), "always the same ones"
    assert prompts.of(catalog.locate("dummy", None)) == ("1", "0")


def test_separated_texts() -> None:
    assert prompts.separated("one\ntwo\n---\n\n---\n three") == ("one\ntwo", " three")
    assert prompts.separated("a ") == ("a ",) and prompts.separated("\n") == ()


def test_flips_by_hand() -> None:
    found = make_classes()
    row = classes.statistics(found, "int4")
    assert row is not None and row.flips.value == 0.5 and row.moved is not None
    assert row.moved.value == pytest.approx((0.03 + 0.01) / 2)
    assert outputs_words.change(found, row.moved.value) == "2.0 %-points", "of a probability no per cent"
    assert outputs_words.classes_sentence(found, "int4").endswith("for 1 of 2 texts, where FP32 itself was undecided.")
    assert outputs_words.classes_sentence(found, "bf16") == "The same class for all 2 texts."
    none = replace(found.items[0], chosen=found.items[0].chosen | {"fp32": ()})
    assert none.flipped("int4", "fp32"), "of labels that each stand for themselves a reference may choose none"
    broken = replace(none, values=none.values | {"fp32": ()})
    assert not broken.flipped("int4", "fp32"), "nothing to compare with"


def test_ranking_by_hand() -> None:
    found = make_embeddings()
    row = embeddings.statistics(found, "int4")
    assert (found.reference.ranking, found.candidates["int4"].ranking) == ((0, 1, 2), (1, 0, 2))
    assert row.tau == pytest.approx(1 / 3) and row.moved == 2 and row.worst == 0.9
    assert "the nearest among them" in outputs_words.embeddings_sentence(found, "int4")
    assert embeddings.statistics(found, "bf16").tau == 1.0


def test_kendalls_tau_by_hand() -> None:
    assert kendall((1, 2, 3, 4), (1, 2, 3, 4)) == 1
    assert kendall((1, 2, 3, 4), (4, 3, 2, 1)) == -1
    assert kendall((1, 2, 3, 4), (1, 3, 2, 4)) == pytest.approx(4 / 6)
    # One tie: 5 pairs count there, 6 here, all of the 5 agree.
    assert kendall((1, 1, 3, 4), (1, 2, 3, 4)) == pytest.approx(5 / math.sqrt(30))
    assert kendall((1, None), (1, 2)) is None and kendall((1,), (1,)) is None and kendall((1, 1), (1, 2)) is None
