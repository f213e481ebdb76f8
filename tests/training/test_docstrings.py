"""The two small encoders that ship: what they were trained on, and that their records are true."""

import json
import operator
from pathlib import Path

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from qfund.checkpoints import checkpoint
from qfund.checkpoints.catalog import CATALOG
from qfund.features.outputs.measure.classify import classify
from qfund.features.outputs.measure.embed import embed
from qfund.features.outputs.request.classes import ClassesRequest
from qfund.features.outputs.request.embeddings import EmbeddingsRequest
from qfund.inputs import pydoc_text
from training import docstring_kinds, docstring_vectors
from training.docstrings import KINDS, Docstring, documented, held_out, paragraphs, split_corpus
from training.encoders import in_precisions

KINDS_FOLDER, VECTORS_FOLDER = (CATALOG[name].folder for name in ("docstring-kinds", "docstring-vectors"))

FOLDERS = [KINDS_FOLDER, VECTORS_FOLDER]

SOURCE = '''
"""A module that stands for many."""

class Shelf:
    """A row of books, in order."""

    def add(self, book):
        """Put a book at the end of the row."""
        def inner():
            """A function that nobody sees."""

    @cached_property
    def longest(self):
        """The book with the most pages."""

class ShelfError(base.Exception):
    """Raised when a shelf is full."""

if True:
    async def sort(shelf):
        """Sort the books of a shelf by title."""

def short():
    """Too short."""
'''

Split = tuple[list[Docstring], list[Docstring]]


@pytest.fixture(scope="module")
def split() -> Split:
    return split_corpus()


def record(folder: Path) -> dict[str, float]:
    found: dict[str, float] = json.loads((folder / "training.json").read_text("utf-8"))
    return found


def short_ones(folder: Path) -> list[Docstring]:
    """Held-out docstrings that the model can read whole, in an order that a hash decides."""
    held, tokenizer = held_out(folder), PreTrainedTokenizerFast.from_pretrained(folder)
    whole = [each for each in held if len(tokenizer(each.text, verbose=False)["input_ids"]) <= 128]
    return sorted(whole, key=lambda each: pydoc_text.name_order(each.text))


def test_kinds_of_what_a_source_documents(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pydoc_text, "source", lambda name: SOURCE.encode())
    assert [(each.name, each.kind) for each in documented("module:shelves.py")] == [
        ("", "module"),
        ("Shelf", "class"),
        ("Shelf.add", "method"),
        ("Shelf.add.inner", "function"),
        ("Shelf.longest", "property"),
        ("ShelfError", "exception"),
        ("sort", "function"),
    ]


def test_kinds_of_what_a_module_in_c_documents() -> None:
    found = {each.name: each.kind for each in documented("builtin:_datetime")}
    assert found[""] == "module" and found["date"] == "class"
    assert found["date.isoformat"] == "method"
    found = {each.name: each.kind for each in documented("builtin:time")}
    assert (found["struct_time"], found["struct_time.tm_year"], found["sleep"]) == ("class", "property", "function")
    assert {each.kind for each in documented("builtin:builtins")} >= {"exception", "class", "function", "method"}
    assert documented("topic:if") == documented("module:no/such.py") == documented("builtin:no_such") == []


def test_a_module_is_trained_on_or_held_out(split: Split) -> None:
    training, held = split
    assert not {each.unit for each in training} & {each.unit for each in held}
    seen = {paragraph for each in held for paragraph in paragraphs(each.text)}
    assert not any(seen.intersection(paragraphs(each.text)) for each in training)
    assert {each.kind for each in training} == {each.kind for each in held} == set(KINDS)
    assert 0.05 < len(held) / len(training) < 0.2


def test_what_pydoc_llama_never_saw_is_held_out_here_too() -> None:
    never = pydoc_text.read_manifest(CATALOG["pydoc-llama"].folder / "held_out.json").units
    here = pydoc_text.read_manifest(KINDS_FOLDER / "held_out.json").units
    assert {unit for unit in never if documented(unit)} <= set(here)


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_the_manifest_is_of_the_split(folder: Path, split: Split) -> None:
    found = pydoc_text.read_manifest(folder / "held_out.json")
    if found.python != pydoc_text.python_version():
        pytest.skip("this Python carries other documentation than the one that trained")
    assert list(found.units) == list(dict.fromkeys(each.unit for each in split[1]))
    assert found.sha256 == pydoc_text.digest(pydoc_text.join(each.text for each in held_out(folder)))


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_they_are_small_and_whole(folder: Path) -> None:
    assert sum(file.stat().st_size for file in folder.iterdir()) < 3.3e6
    tensors = checkpoint.read(folder).tensors
    assert sum(tensor.bytes for tensor in tensors.values()) == 4 * record(folder)["parameters"]
    assert {tensor.dtype for tensor in tensors.values()} == {"F32"}


def test_both_split_texts_alike() -> None:
    kinds, vectors = ((folder / "tokenizer.json").read_text("utf-8") for folder in FOLDERS)
    assert kinds == vectors and json.loads(kinds)["truncation"] is None and json.loads(kinds)["padding"] is None


def test_the_classifier_knows_docstrings_that_it_never_saw() -> None:
    some = short_ones(KINDS_FOLDER)[:60]
    found = classify(
        ClassesRequest("docstring-kinds", precisions=("bf16", "int2"), texts=tuple(each.text for each in some))
    )
    wanted = [(each.kind,) for each in some]
    chosen = {name: [item.chosen[name] for item in found.items] for name in ("fp32", "bf16", "int2")}
    facts = record(KINDS_FOLDER)
    accuracy = sum(map(operator.eq, chosen["fp32"], wanted)) / len(some)
    assert accuracy == pytest.approx(facts["held_out_accuracy"], abs=0.15)
    assert accuracy > facts["majority_accuracy"] + 0.05
    bf16, int2 = (sum(map(operator.ne, chosen["fp32"], chosen[name])) for name in ("bf16", "int2"))
    assert bf16 <= 3 < int2, "BF16 changes a kind only where two are about equally likely"


def test_embed_reads_texts_as_training_did() -> None:
    some = [each.text for each in short_ones(VECTORS_FOLDER)[:10]]
    found = embed(EmbeddingsRequest("docstring-vectors", "fp32", ("bf16",), some[0], tuple(some[1:])))
    _, forward = next(in_precisions(VECTORS_FOLDER))
    unit = docstring_vectors.vectors(forward, PreTrainedTokenizerFast.from_pretrained(VECTORS_FOLDER), some)
    assert list(found.reference.scores) == pytest.approx((unit[0] @ unit[1:].T).tolist(), abs=1e-4)
    assert min(score for score in found.candidates["bf16"].cosine if score is not None) > 0.999


def test_the_recorded_retrieval_is_what_the_weights_find() -> None:
    tokenizer = PreTrainedTokenizerFast.from_pretrained(VECTORS_FOLDER)
    asked = docstring_vectors.questions(held_out(VECTORS_FOLDER))
    _, forward = next(in_precisions(VECTORS_FOLDER))
    found = docstring_vectors.retrieval(*docstring_vectors.both_sides(forward, tokenizer, asked))
    facts = json.loads((VECTORS_FOLDER / "training.json").read_text("utf-8"))
    assert found == pytest.approx(facts["held_out"], abs=0.03)  # another Python has slightly other docstrings
    assert all(found[name] > 10 * value for name, value in docstring_vectors.chance(len(asked)).items())


def test_ranks_by_hand() -> None:
    first = torch.eye(3)
    second = torch.tensor([[1.0, 0, 0], [0, 0, 1], [0, 1, 0]])
    assert docstring_vectors.retrieval(first, second) == {
        "recall_at_1": pytest.approx(1 / 3, abs=1e-4),
        "recall_at_10": 1.0,
        "mrr": pytest.approx((1 + 1 / 2 + 1 / 2) / 3, abs=1e-4),
    }
    assert docstring_vectors.chance(100) == {"recall_at_1": 0.01, "recall_at_10": 0.1, "mrr": 0.0519}


def test_scores_by_hand() -> None:
    found = torch.eye(len(KINDS))[[3, 3, 0, 4]]
    assert docstring_kinds.scores(found, torch.tensor([3, 0, 0, 4])) == {"accuracy": 0.75, "mean_recall": 0.8333}


def test_halves_and_titles() -> None:
    assert docstring_vectors.halves("Open a file and return it. Raises an error otherwise.") == (
        "Open a file and return it.",
        "Raises an error otherwise.",
    )
    assert docstring_vectors.halves("Open a file and return it.") is None
    assert docstring_vectors.title(Docstring("module:json/decoder.py", "JSONDecoder.raw_decode", "method", "")) == (
        "json decoder JSON Decoder raw decode"
    )


def test_what_sentence_transformers_reads_says_the_same_as_the_config() -> None:
    read = {name: json.loads((VECTORS_FOLDER / name).read_text()) for name in docstring_vectors.SENTENCE_TRANSFORMERS}
    config = checkpoint.read(VECTORS_FOLDER).config
    assert read["1_Pooling/config.json"]["word_embedding_dimension"] == config["dim"]
    assert read["1_Pooling/config.json"]["pooling_mode_mean_tokens"]
    assert read["sentence_bert_config.json"]["max_seq_length"] == config["max_position_embeddings"] == 128
    assert [part["type"].rpartition(".")[2] for part in read["modules.json"]] == ["Transformer", "Pooling", "Normalize"]
