"""Encoders that were saved without their head or pooler, held to plain transformers."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from qfund.core.errors import CorruptCheckpoint, UnsupportedModel
from qfund.features.compare.measure.compare import compare
from qfund.features.compare.request.spec import Spec
from qfund.features.outputs.measure.classify import classify
from qfund.features.outputs.measure.embed import embed
from qfund.features.outputs.request.classes import ClassesRequest
from qfund.features.outputs.request.embeddings import EmbeddingsRequest
from tests.tiny import checkpoints

TEXTS = ("the quick brown fox", "a lazy dog", "dog and fox")


def cut(name: str, folder: Path, rename: Callable[[str], str | None]) -> Path:
    """The tiny checkpoint with other names for its tensors; None leaves one out."""
    checkpoints.make(name, folder)
    held = load_file(folder / "model.safetensors")
    kept = {new: tensor for old, tensor in held.items() if (new := rename(old))}
    save_file(kept, folder / "model.safetensors", {"format": "pt"})
    return folder


def bare(prefix: str) -> Callable[[str], str | None]:
    """As the base alone is saved."""
    return lambda name: name.removeprefix(prefix) if name.startswith(prefix) else None


def no_pooler(name: str) -> str | None:
    return None if "pooler" in name else name


CASES = {
    "no pooler": ("bert-encoder", no_pooler, "BertModel", "no pooler"),
    "only the base": ("roberta-masked", bare("roberta."), "RobertaModel", "nothing of its head"),
    "base with its prefix": (
        "bert-classifier",
        lambda n: n if n.startswith("bert.") else None,
        "BertModel",
        "its head",
    ),
    "base of a classifier of tokens": ("distilbert-tokens", bare("distilbert."), "DistilBertModel", "its head"),
    "base of a decoder": ("llama-untied", bare("model."), "LlamaModel", "nothing of its head"),
}


@pytest.mark.parametrize("case", CASES)
def test_hidden_states_need_neither_head_nor_pooler(case: str, tmp_path: Path) -> None:
    name, rename, architecture, said = CASES[case]
    folder = cut(name, tmp_path / "model", rename)
    found = embed(EmbeddingsRequest(str(folder), precisions=("bf16",), query=TEXTS[0], texts=TEXTS[1:]))
    assert said in " ".join(found.notes)
    model = getattr(transformers, architecture).from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    with torch.inference_mode():
        rows = [
            model(tokenizer(t, return_tensors="pt")["input_ids"]).last_hidden_state[0].double().mean(0) for t in TEXTS
        ]
    cosines = [float(torch.cosine_similarity(rows[0], row, 0)) for row in rows]
    assert found.reference.similarity[0] == pytest.approx(cosines, abs=1e-5)
    report = compare(Spec(str(folder), precisions=("bf16",), text=checkpoints.TEXT, max_tokens=40))
    assert report.whole is None and report.model.task in ("text encoder", "encoder")
    assert said in " ".join(report.input.notes)
    assert report.reference.predicted_bytes == report.reference.footprint_bytes


def test_pictures_too(tmp_path: Path) -> None:
    folder = cut("vit-encoder", tmp_path / "model", no_pooler)
    report = compare(Spec(str(folder), precisions=("fp32",)))
    assert "no pooler" in " ".join(report.input.notes) and report.results[0].fidelity["max_abs_hidden_diff"].value == 0


def test_what_is_needed_is_still_asked_for(tmp_path: Path) -> None:
    classifier = cut("bert-classifier", tmp_path / "a", lambda name: name if name.startswith("bert.") else None)
    with pytest.raises(UnsupportedModel, match="no head that gives classes"):
        classify(ClassesRequest(str(classifier), precisions=("bf16",)))
    with pytest.raises(UnsupportedModel, match="no pooler"):
        folder = cut("bert-encoder", tmp_path / "b", no_pooler)
        embed(EmbeddingsRequest(str(folder), precisions=("bf16",), pooling="pooler"))
    damaged = cut("llama-untied", tmp_path / "c", lambda name: None if name.startswith("lm_head") else name)
    with pytest.raises(CorruptCheckpoint, match=r"lacks 1 tensor: lm_head\.weight"):
        embed(EmbeddingsRequest(str(damaged), precisions=("bf16",)))
    half = cut("bert-encoder", tmp_path / "d", lambda name: None if name == "pooler.dense.bias" else name)
    with pytest.raises(CorruptCheckpoint, match=r"pooler\.dense\.bias"):
        embed(EmbeddingsRequest(str(half), precisions=("bf16",)))
