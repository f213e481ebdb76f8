"""What is read and scored: folders, overlapping chunks, llama.cpp's positions, and no padding anywhere."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from qfund.checkpoints import catalog, checkpoint
from qfund.core.errors import CorruptCheckpoint, InvalidInput, UnsupportedModel
from qfund.features.compare.measure.compare import compare
from qfund.features.compare.request.spec import Spec, like_llama_cpp
from qfund.inputs.texts import SECOND_HALF, NamedText
from qfund.models import inputs, loading, tasks, vocabulary
from tests import independent
from tests.features.compare.test_architectures import CASES, TEXT
from tests.tiny import checkpoints

SENTENCES = [f"{sentence}." for sentence in TEXT.replace("\n", " ").split(". ")]
FOLDER = (NamedText("a", TEXT), NamedText("b", SENTENCES[0]), NamedText("c", " ".join(SENTENCES[2:4])))
#: One of every kind of model that reads text.
KINDS = (
    "llama",
    "gpt2",
    "t5",
    "bert-masked",
    "bert-classifier",
    "gpt2-classifier",
    "distilbert-tokens",
    "bert-encoder",
)


def asked(name: str, **parts: Any) -> Spec:
    return Spec(str(checkpoints.folder(name)), precisions=("bf16",), **({"text": TEXT} | parts))


def prepared(spec: Spec) -> inputs.Prepared:
    found = checkpoint.read(Path(spec.model))
    return inputs.prepare(spec, catalog.locate(spec.model), found, tasks.task_of(found))


def perplexity(spec: Spec) -> tuple[float, int]:
    found = compare(spec).reference.fidelity["perplexity"]
    return found.value, found.n


@torch.inference_mode()
def nll(name: str, row: list[int]) -> list[float]:
    """Of each token but the first, after those before it, in a forward of their own."""
    log_p = _plain(name)(input_ids=torch.tensor([row])).logits[0].double().log_softmax(-1)
    return [-float(log_p[place, token]) for place, token in enumerate(row[1:])]


_models: dict[str, Any] = {}


def _plain(name: str) -> Any:
    if name not in _models:
        _models[name] = independent.load(checkpoints.folder(name), torch.float32)
    return _models[name]


@pytest.mark.parametrize(("name", "bos"), [("llama", [1]), ("gpt2", [])])
def test_with_a_stride_every_token_is_predicted_once_from_what_its_chunk_holds_before_it(
    name: str, bos: list[int]
) -> None:
    ids = independent.tokens(checkpoints.folder(name), TEXT)[:40]
    room, stride, losses, end = 16 - len(bos), 6, list[float](), 0
    for begin in range(0, len(ids), stride):
        row = [*bos, *ids[begin : begin + room]]
        new = begin + room - end if begin else len(row) - 1  # all that no chunk before has reached
        losses += nll(name, row)[len(row) - 1 - min(new, len(ids) - end) :] if end < len(ids) else []
        end = begin + room
    value, count = perplexity(asked(name, context=16, stride=stride, max_tokens=40))
    assert count == len(losses) == 40 - (not bos)
    assert value == pytest.approx(np.exp(np.mean(losses)), rel=2e-5)


@pytest.mark.parametrize(("name", "bos"), [("llama", [1]), ("gpt2", [])])
def test_llama_cpps_setting_scores_its_positions(name: str, bos: list[int]) -> None:
    ids = [*bos, *independent.tokens(checkpoints.folder(name), TEXT)]
    n_ctx, losses = 12, []
    for start in range(0, len(ids) - n_ctx + 1, n_ctx):
        losses += nll(name, [*bos, *ids[start + len(bos) : start + n_ctx]])[n_ctx // 2 :]
    spec = like_llama_cpp(asked(name, context=n_ctx))
    value, count = perplexity(spec)
    assert count == len(losses) == len(ids) // n_ctx * 5
    assert value == pytest.approx(np.exp(np.mean(losses)), rel=2e-5)
    found = prepared(spec)
    assert found.facts.chunks == len(ids) // n_ctx and found.facts.tokens == len(ids) // n_ctx * n_ctx - len(bos)
    assert any("positions 6 to 10 are scored, as llama.cpp does" in note for note in found.facts.notes)
    left = len(ids) % n_ctx
    assert any(f"{left} token" in note and "filled no chunk" in note for note in found.facts.notes) == bool(left)


@pytest.mark.parametrize("name", ["llama", "t5", "bert-masked", "distilbert-tokens"])
def test_whatever_overlaps_is_compared_once(name: str) -> None:
    apart, over = prepared(asked(name, context=20)), prepared(asked(name, context=20, stride=5))
    assert over.facts.tokens == apart.facts.tokens and over.facts.chunks > 2 * apart.facts.chunks
    for found in (apart, over):
        assert len(found.pieces) == sum(batch.chunks.numel() * _width(batch) for batch in found.batches)
    compared = sum(int(batch.scored.sum()) for batch in over.batches if batch.scored is not None)
    if name == "llama":  # every token but none before <s>, and what follows the last one
        assert compared == over.facts.tokens + 1
    if name == "t5":  # every token, and </s> of every chunk
        assert compared == over.facts.tokens + over.facts.chunks


def _width(batch: inputs.Batch) -> int:
    return int(batch.arguments["input_ids"].shape[1])


# ---- several texts


@pytest.mark.parametrize("name", KINDS)
def test_texts_of_a_folder_are_read_one_by_one(name: str) -> None:
    alone = [prepared(asked(name, text=named.text)) for named in FOLDER]
    found = prepared(asked(name, text=None, texts=FOLDER))
    assert found.facts.source == "texts" and [row.name for row in found.facts.texts] == ["a", "b", "c"]
    assert [row.chunks for row in found.facts.texts] == [each.facts.chunks for each in alone]
    assert [row.tokens for row in found.facts.texts] == [each.facts.tokens for each in alone]
    assert [row.sha256 for row in found.facts.texts] == [each.facts.sha256 for each in alone]
    assert found.facts.tokens == sum(each.facts.tokens for each in alone)
    assert found.texts_of_chunks == tuple(text for text, each in enumerate(alone) for _ in range(each.facts.chunks))
    rows = [row for batch in found.batches for row in batch.arguments["input_ids"].tolist()]
    assert rows == [row for each in alone for batch in each.batches for row in batch.arguments["input_ids"].tolist()]
    assert torch.cat([batch.chunks for batch in found.batches]).tolist() == list(range(found.facts.chunks))
    assert found.pieces == sum((each.pieces for each in alone), ())


def test_a_folders_mean_is_that_of_its_texts_means() -> None:
    """A long text counts no more than a short one."""
    parts = [compare(asked("llama", text=named.text)).results[0].fidelity["kl_mean"] for named in FOLDER]
    found = compare(asked("llama", text=None, texts=FOLDER))
    whole = found.results[0].fidelity["kl_mean"]
    assert whole.n == sum(part.n for part in parts)
    assert whole.value == pytest.approx(np.mean([part.value for part in parts]), rel=1e-9)
    # Texts are drawn independently, so their variances add up.
    errors = [part.se for part in parts if part.se is not None]
    assert len(errors) == len(parts) and whole.se == pytest.approx(np.linalg.norm(errors) / len(parts), rel=1e-9)
    assert [row.name for row in found.input.texts] == ["a", "b", "c"]


def test_each_text_is_cut_by_itself_and_what_is_too_short_is_said() -> None:
    texts = (*FOLDER, NamedText("d", "x"), NamedText("e", " "))
    found = prepared(asked("llama", text=None, texts=texts, max_tokens=30)).facts
    assert [row.tokens for row in found.texts] == [30, *(min(30, len(_ids(named.text))) for named in FOLDER[1:])]
    assert any("2 texts shorter than 2 tokens left out: d, e" in note for note in found.notes)
    assert any("of 5 texts, the first 30 tokens were used" in note for note in found.notes)


def _ids(text: str) -> list[int]:
    return independent.tokens(checkpoints.folder("llama"), text)


def test_few_chunks_are_said_to_be_few() -> None:
    def said(**parts: Any) -> bool:
        return any("too few for an interval" in note for note in prepared(asked("llama", **parts)).facts.notes)

    assert said() and said(context=64) and said(context=20, max_tokens=19 * 7)
    assert not said(context=20, max_tokens=19 * 8)


# ---- nothing is padded


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.context])
def test_no_input_is_padded_and_every_position_counts_once(name: str) -> None:
    """Texts of unequal lengths on every architecture: batches hold the chunks' tokens and nothing else."""
    spec = asked(name, text=None, texts=FOLDER)
    found = prepared(spec)
    case = CASES[name]
    room = case.context - len(case.before) - len(case.after)
    wanted = []
    for named in FOLDER:
        ids = independent.tokens(checkpoints.folder(name), named.text)
        wanted += [[*case.before, *ids[at : at + room], *case.after] for at in range(0, len(ids), room)]
    rows: list[list[int]] = []
    for batch in found.batches:
        shown = given = batch.arguments["input_ids"]
        if batch.targets is not None and case.task.startswith("masked"):
            shown = torch.where(batch.targets >= 0, batch.targets, given)
        rows += shown.tolist()
        assert all(part.shape[:2] == given.shape for part in batch.arguments.values())
        if "attention_mask" in batch.arguments:
            assert bool(batch.arguments["attention_mask"].all())
    assert rows == wanted


@pytest.mark.parametrize(
    ("name", "metric", "count"),
    [
        ("bert-encoder", "hidden_cosine", lambda ids, chunks: ids + 2 * chunks),
        ("bert-encoder", "pooled_cosine", lambda ids, chunks: chunks),
        ("bert-classifier", "top1_agreement", lambda ids, chunks: chunks),
        ("gpt2-classifier", "top1_agreement", lambda ids, chunks: chunks),
        ("distilbert-tokens", "top1_agreement", lambda ids, chunks: ids + 2 * chunks),
        ("t5", "perplexity", lambda ids, chunks: ids + chunks),
        ("llama", "perplexity", lambda ids, chunks: ids),
        ("gpt2", "perplexity", lambda ids, chunks: ids - chunks),
    ],
)
def test_metrics_count_tokens_and_no_padding(name: str, metric: str, count: Callable[[int, int], int]) -> None:
    found = compare(asked(name, text=None, texts=FOLDER))
    fidelity = found.results[0].fidelity[metric]
    assert fidelity.n == count(found.input.tokens, found.input.chunks)


@pytest.mark.parametrize("name", ["bert-encoder", "bert-classifier", "distilbert-tokens", "t5-encoder"])
def test_unpadded_batches_give_what_masked_padding_gives(name: str) -> None:
    """Plain transformers with all texts in one batch, padded and masked, agree at every token: nothing is lost."""
    found = prepared(asked(name, text=None, texts=FOLDER[1:]))
    model = _plain(name)
    rows = [row for batch in found.batches for row in batch.arguments["input_ids"]]
    longest = max(map(len, rows))
    padded = torch.stack([torch.nn.functional.pad(row, (0, longest - len(row))) for row in rows])
    mask = torch.stack([(torch.arange(longest) < len(row)).long() for row in rows])
    with torch.inference_mode():
        together = _output(model(input_ids=padded, attention_mask=mask))
        alone = [_output(model(**batch.arguments)) for batch in found.batches]
    for number, row in enumerate(part for batch in alone for part in batch):
        theirs = together[number] if row.dim() < 2 else together[number, : len(row)]
        torch.testing.assert_close(row, theirs, atol=1e-4, rtol=1e-4)


def _output(output: Any) -> torch.Tensor:
    found: torch.Tensor = output.last_hidden_state if "last_hidden_state" in output else output.logits
    return found


# ---- refusals


@pytest.mark.parametrize(
    ("name", "parts", "said"),
    [
        ("bert-masked", {"scoring": SECOND_HALF}, "Only a causal language model"),
        ("bert-encoder", {"stride": 4}, "text encoder has no single tokens scored"),
        ("bert-classifier", {"stride": 4}, "counted twice"),
        ("vit-encoder", {"text": None, "texts": FOLDER}, "reads no text"),
        ("blip", {"text": None, "texts": FOLDER}, "one text for every picture"),
        ("blip", {"text": None, "stride": 4}, "reads no chunks"),
        ("vit-encoder", {"text": None, "scoring": SECOND_HALF}, "reads no chunks"),
        ("llama", {"stride": 64}, "stride of 64 skips tokens: a chunk has room for 63"),
        ("llama", {"scoring": SECOND_HALF, "max_tokens": 40}, "The text is 40 tokens long: no whole chunk of 64"),
        ("llama", {"text": None, "texts": (NamedText("a", "x"), NamedText("b", ""))}, "No text has more than 1 token"),
        ("llama", {"text": None, "texts": (NamedText("a", " "),)}, "The texts are empty"),
    ],
)
def test_positions_that_there_are_not_are_refused(name: str, parts: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidInput, match=said) as caught:
        prepared(asked(name, **parts))
    assert caught.value.remedy


@pytest.mark.parametrize(("size", "blame"), [(280, "280 × 32 by config.json"), (4000, "4,000 × 32 by config.json")])
@pytest.mark.parametrize(
    ("name", "tensor"),
    [("llama", "model.embed_tokens.weight"), ("llama-untied", "lm_head.weight"), ("bert-masked", "word_embeddings")],
)
def test_a_vocabulary_that_differs_from_the_weights_is_refused_before_anything_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, tensor: str, size: int, blame: str
) -> None:
    monkeypatch.setattr(loading, "read", lambda *_: pytest.fail("weights were read"))
    shutil.copytree(checkpoints.folder(name), tmp_path, dirs_exist_ok=True)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"vocab_size": size}))
    if name == "llama-untied":  # its embeddings fit; only its head does not
        monkeypatch.setattr(vocabulary, "_input_embeddings", lambda model: None)
    with pytest.raises(CorruptCheckpoint, match=rf"The vocabulary of .* differs: .*{tensor}") as caught:
        compare(Spec(str(tmp_path), precisions=("bf16",), text=TEXT))
    assert "300 × 32 in the weights" in caught.value.message and blame in caught.value.message


def test_a_tokenizer_of_another_vocabulary_is_named_with_the_token_and_the_size(tmp_path: Path) -> None:
    tiny = replace(checkpoints.CHECKPOINTS["gpt2"], config=lambda: _small())
    checkpoints.write(checkpoints.build(tiny), tiny, tmp_path)
    with pytest.raises(
        UnsupportedModel, match=r"makes token \d+ \('.*'\) of this text.* vocabulary of 50 \(vocab_size"
    ):
        prepared(Spec(str(tmp_path), text=TEXT))


def _small() -> Any:
    config = checkpoints.CHECKPOINTS["gpt2"].config()
    config.vocab_size = 50
    return config
