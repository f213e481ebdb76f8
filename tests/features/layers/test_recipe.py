"""Recipes: the best mix by enumeration, never above the budget, never recommended unless it is better."""

import itertools
import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from qfund.cli import main
from qfund.core.errors import EngineError, InvalidInput, InvalidSpec
from qfund.core.estimate import Estimate
from qfund.features.layers import tables, words
from qfund.features.layers.measure import searched
from qfund.features.layers.measure.choosing import choosing
from qfund.features.layers.measure.injected import layers, noise
from qfund.features.layers.measure.opening import opening
from qfund.features.layers.measure.searched import recipe as measure
from qfund.features.layers.request import recipe, solver
from qfund.features.layers.request.modules import LayersRequest
from qfund.features.layers.request.recipe import Recipe, RecipeRequest
from qfund.features.layers.request.solver import Choice, smallest, solve
from qfund.models import footprint, loading
from qfund.precisions.table import PRECISIONS
from tests.tiny import checkpoints

TEXT = checkpoints.TEXT * 3


@st.composite
def _choices(draw: st.DrawFn) -> list[Choice]:
    names = ("a", "b", "c")
    found = []
    for number in range(draw(st.integers(1, 5))):
        sizes = draw(st.lists(st.integers(1, 1000), min_size=3, max_size=3))
        damages = draw(st.lists(st.integers(0, 1000), min_size=3, max_size=3))
        found.append(
            Choice(
                (str(number),),
                dict(zip(names, sizes, strict=True)),
                {name: value / 1000 for name, value in zip(names, damages, strict=True)},
            )
        )
    return found


@given(_choices(), st.integers(1, 5000))
def test_the_solver_finds_what_enumeration_finds(choices: list[Choice], budget: int) -> None:
    every = [
        (sum(choice.damage[name] for choice, name in zip(choices, names, strict=True)), names)
        for names in itertools.product("abc", repeat=len(choices))
        if sum(choice.bytes[name] for choice, name in zip(choices, names, strict=True)) <= budget
    ]
    found = solve(choices, budget)
    if not every:
        assert found is None
        return
    assert found is not None
    assert sum(choice.bytes[name] for choice, name in zip(choices, found, strict=True)) <= budget
    damage = sum(choice.damage[name] for choice, name in zip(choices, found, strict=True))
    assert damage == pytest.approx(min(every)[0], abs=1e-5)


@given(_choices(), st.integers(0, 5000))
def test_the_fewest_bytes_are_what_enumeration_finds(choices: list[Choice], thousandths: int) -> None:
    damage = thousandths / 1000
    every = [
        sum(choice.bytes[name] for choice, name in zip(choices, names, strict=True))
        for names in itertools.product("abc", repeat=len(choices))
        if sum(choice.damage[name] for choice, name in zip(choices, names, strict=True)) <= damage + 1e-9
    ]
    found = smallest(choices, damage + 1e-9)
    if not every:
        assert found is None
        return
    assert found is not None
    assert sum(choice.bytes[name] for choice, name in zip(choices, found, strict=True)) == min(every)
    assert sum(choice.damage[name] for choice, name in zip(choices, found, strict=True)) <= damage + 1e-5


@given(_choices(), st.integers(0, 3000), st.integers(0, 3000))
def test_within_two_margins_are_what_enumeration_finds(choices: list[Choice], first: int, second: int) -> None:
    """The second margin is on another damage of the same modules, that of one choice standing for the next one's."""
    moved = [replace(choice, changed=choices[number - 1].damage) for number, choice in enumerate(choices)]
    every = []
    for names in itertools.product("abc", repeat=len(moved)):
        taken = list(zip(moved, names, strict=True))
        sums = [sum(getattr(choice, what)[name] for choice, name in taken) for what in ("damage", "changed")]
        if sums[0] <= first / 1000 + 1e-9 and sums[1] <= second / 1000 + 1e-9:
            every.append(sum(choice.bytes[name] for choice, name in taken))
    found = smallest(moved, first / 1000 + 1e-9, second / 1000 + 1e-9)
    if not every:
        assert found is None
        return
    assert found is not None
    assert sum(choice.bytes[name] for choice, name in zip(moved, found, strict=True)) == min(every)


def test_what_the_solver_prints_is_none_of_a_commands_output(capfd: pytest.CaptureFixture[str]) -> None:
    with solver._silent():
        os.write(1, b"a line of HiGHS")
    os.write(1, b"a line of JSON")
    assert capfd.readouterr() == ("a line of JSON", "a line of HiGHS")


@pytest.fixture(scope="module")
def found() -> Recipe:
    return measure(
        RecipeRequest(
            str(checkpoints.folder("llama")),
            ("int8_g32", "int4", "int2"),
            text=TEXT,
            context=16,
            max_tokens=128,
            test_tokens=256,
            bits=5.5,
        )
    )


def test_bytes_are_those_of_models_as_they_are_loaded(found: Recipe) -> None:
    from qfund.checkpoints import checkpoint

    opened = checkpoint.read(checkpoints.folder("llama"))
    for row in found.uniform:
        loaded = loading.load(opened, PRECISIONS[str(row.precision)]).model
        assert row.bytes == footprint.stored(loaded).bytes
    assert found.smallest <= found.recipe.bytes <= found.budget
    assert found.recipe.bits <= 5.5
    recipe.consistent(found)


def test_the_fewest_bytes_within_a_divergence(found: Recipe) -> None:
    wide, narrow = (measure(replace(found.request, bits=None, kl=kl)) for kl in (1.0, 1e-3))
    assert narrow.recipe.predicted <= 1e-3 < wide.recipe.predicted <= 1.0
    assert wide.recipe.bytes < narrow.recipe.bytes
    for each in (wide, narrow):
        recipe.consistent(each)
        assert each.budget == each.recipe.bytes
        assert "nat asked for" in words.foretold(each)
    assert "a foretold KL of" in words.recipe_headline(replace(narrow, rival="int4", difference=None))


def test_the_fewest_bytes_within_a_share_of_changed_tokens(found: Recipe) -> None:
    loose = measure(replace(found.request, bits=None, changed=0.9))
    recipe.consistent(loose)
    assert loose.recipe.changed and loose.recipe.changed.value < 0.9 and loose.budget == loose.recipe.bytes
    assert "likeliest next token" in words.foretold(loose) and "lies within the 90 % asked for" in words.foretold(loose)
    both = replace(loose.request, kl=1e-3)
    assert "a foretold KL of 0.001 nat and 90 % of tokens changed" in words.recipe_headline(
        replace(loose, request=both, rival="int4", difference=None)
    )


def test_gradients_find_nearly_what_swaps_find(found: Recipe) -> None:
    by = measure(replace(found.request, by="gradient"))
    recipe.consistent(by)
    assert "Predicted from gradients" in words.foretold(by)
    assert by.recipe.predicted == pytest.approx(found.recipe.predicted, rel=0.5)
    assert by.recipe.kl and found.recipe.kl and by.recipe.kl.value == pytest.approx(found.recipe.kl.value, rel=0.3)


def test_own_errors_are_shares_of_what_a_precision_costs_everywhere(found: Recipe) -> None:
    """A poor guide, and said to be one; what was measured holds all the same."""
    by = measure(replace(found.request, by="injected"))
    recipe.consistent(by)
    assert "Predicted from modules' own errors" in words.foretold(by)
    assert any("say little of what the model's outputs lose" in note for note in by.notes)
    for mine, theirs in zip(by.uniform, found.uniform, strict=True):  # the same on the test text, whoever searches
        assert mine.kl == theirs.kl
    asked = replace(found.request, max_tokens=64)
    own = noise(opening(asked, lambda phase, share: None), (), lambda phase, share: None)
    page = layers(LayersRequest(asked.model, asked.precisions, text=asked.text, context=asked.context, max_tokens=64))
    for module in page.modules:
        for row, injected in module.injected.items():
            assert own[module.name, row] == pytest.approx(injected.relative_l2**2, rel=1e-9)
    errors: dict[tuple[tuple[str, ...], str], float] = {
        (("a",), "int4"): 0.3,
        (("b",), "int4"): 0.1,
        (("a",), "int2"): 0.0,
    }
    by_hand = searched.in_nat(errors, {"int4": 2.0, "int2": 1.0})
    assert list(by_hand.values()) == pytest.approx([1.5, 0.5, 0.0])


def test_search_and_test_text_are_apart(found: Recipe) -> None:
    """Of 26 chunks, each with a token for its start, a third is searched on, and none is in both."""
    whole = opening(replace(found.request, max_tokens=384), lambda phase, share: None)
    parts = [
        torch.cat([batch.chunks for batch in part.prepared.batches]).tolist() for part in searched.split(whole, 128)
    ]
    assert parts[0] + parts[1] == list(range(26)) and parts[0] and parts[1]
    assert found.search_tokens + found.test_tokens == found.input.tokens + 26
    assert found.search_tokens == pytest.approx(128, abs=16)


def test_bits_are_of_weights_that_modules_share_once() -> None:
    """Blocks of 32 codes and a scale in FP16 are 4.5 and 8.5 bits a weight, the tied embeddings among them."""
    request = RecipeRequest("pydoc-llama", ("q8_0", "q4_0"), bits=5, max_tokens=512)
    offered = choosing(opening(request, lambda phase, share: None), request)
    assert {"lm_head", "model.embed_tokens"} <= set(offered.names)
    for row, bits in (("q8_0", 8.5), ("q4_0", 4.5)):
        assert offered.bits(offered.rest + sum(each[row] for each in offered.bytes.values())) == bits


def test_what_is_alike_is_alike(found: Recipe) -> None:
    modules = found.recipe.modules
    for kinds in (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj")):
        for block in (0, 1):
            chosen = {
                row for name, row in modules.items() if f"layers.{block}." in name and name.rpartition(".")[2] in kinds
            }
            assert len(chosen) == 1


@pytest.mark.parametrize(
    ("low", "high", "better"), [(-2e-3, -1e-3, True), (-2e-3, 1e-5, False), (1e-5, 2e-3, False), (None, None, False)]
)
def test_it_is_recommended_only_where_it_is_better(
    found: Recipe, low: float | None, high: float | None, better: bool
) -> None:
    difference = Estimate(-1e-3, 1e-4, 200, "nat", low, high, 10)
    seen = replace(found, rival="int4", difference=difference)
    assert (seen.recommended is found.recipe) == better
    sentence = words.recipe_headline(seen)
    assert sentence.startswith("Run the recipe" if better else "Run INT4 g32 for everything")


def test_without_a_uniform_precision_as_small_there_is_no_rival(found: Recipe) -> None:
    seen = replace(found, rival=None, difference=None)
    assert seen.recommended is found.recipe
    assert "No uniform precision" in words.recipe_headline(seen)


def test_frontier_and_tables(found: Recipe) -> None:
    bytes_, predicted = zip(*((row.bytes, row.predicted) for row in found.frontier), strict=True)
    assert list(bytes_) == sorted(bytes_)
    assert all(later <= earlier + 1e-9 for earlier, later in itertools.pairwise(predicted))
    frame = tables.mixtures(found)
    assert set(frame["what"]) == {"recipe", "uniform", "frontier"}
    assert len(tables.assigned(found.recipe)) == len(found.recipe.modules)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"bits": None}, "one budget"),
        ({"budget": 10_000_000}, "one budget"),
        ({"bits": 0.0}, "bits per weight"),
        ({"bits": None, "budget": -1}, "budget"),
        ({"kl": 0.1}, "one budget"),
        ({"bits": None, "kl": 0.0}, "KL divergence of 0"),
        ({"bits": None, "changed": 1.0}, "of all positions may change"),
        ({"bits": None, "changed": 0.1, "by": "gradient"}, "Gradients do not foretell"),
        ({"gpu": "4090"}, "one budget"),
        ({"bits": None, "gpu": "4090", "gpu_context": 0}, "context is 0"),
        ({"bits": None, "kl": float("nan")}, "KL divergence of nan"),
        ({"test_tokens": 1}, "test_tokens"),
    ],
)
def test_what_cannot_be_asked(found: Recipe, changes: dict[str, object], said: str) -> None:
    with pytest.raises(InvalidSpec, match=said):
        recipe.checked(replace(found.request, **changes))  # type: ignore[arg-type]


def test_a_budget_below_the_smallest_says_the_smallest(found: Recipe) -> None:
    with pytest.raises(InvalidSpec, match="the smallest takes"):
        measure(replace(found.request, bits=0.5))


def test_a_text_too_short_to_split(found: Recipe) -> None:
    with pytest.raises(InvalidInput, match="too short to be split"):
        measure(replace(found.request, text="The fox.", context=16))


def test_above_its_budget_it_is_not_published(found: Recipe) -> None:
    with pytest.raises(EngineError, match="more than"):
        recipe.consistent(replace(found, budget=1))


def test_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "text").write_text(TEXT)
    model, path = str(checkpoints.folder("llama")), tmp_path / "recipe.json"
    arguments = [
        "recipe",
        model,
        "--bits",
        "6",
        "--precision",
        "int8_g32",
        "int4",
        "--text-file",
        str(tmp_path / "text"),
    ]
    arguments += ["--context", "16", "--max-tokens", "64", "--test-tokens", "128", "--quiet", "--no-store"]
    with pytest.raises(SystemExit) as ended:
        main([*arguments, "--save", str(path)])
    assert not ended.value.code
    printed = capsys.readouterr().out
    document = json.loads(path.read_text())
    assert set(document["modules"].values()) <= {"fp32", "int8_g32", "int4"}
    assert "measured KL" in printed and all(name in printed for name in document["modules"])


def test_a_gpu_leaves_what_its_context_does_not_take(capsys: pytest.CaptureFixture[str]) -> None:
    """A tiny model takes its share of any: all of it stays in the reference."""
    arguments = ["recipe", str(checkpoints.folder("llama")), "--precision", "int4", "--gpu", "4090"]
    arguments += ["--gpu-context", "2k"]
    arguments += ["--context", "16", "--max-tokens", "32", "--test-tokens", "32", "--no-store", "--json"]
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert not ended.value.code
    printed = capsys.readouterr()
    assert "are left for weights at 2,048 tokens" in json.loads(printed.out)["notes"][-1]
    found = json.loads(printed.out)
    assert set(found["recipe"]["modules"].values()) == {"fp32"}
    assert 22 * 2**30 < found["budget"] < 23.52 * 2**30


def test_a_gpu_is_asked_with_a_reference_that_cannot_be(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["recipe", "dummy", "--gpu", "4090", "--reference", "int4"])
    assert ended.value.code
    assert "is no reference for single modules" in capsys.readouterr().err
