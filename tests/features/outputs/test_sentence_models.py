"""Folders of sentence-transformers, in all their layouts, held to plain transformers and poolings written by hand."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import save_file
from torch import Tensor, nn

from qfund.checkpoints import catalog
from qfund.core.errors import QfundError, UnsupportedModel
from qfund.features.outputs.measure.embed import embed
from qfund.features.outputs.request.embeddings import EmbeddingsRequest
from tests.tiny import checkpoints

TEXTS = ("the quick brown fox", "a lazy dog", "Dog and fox, fox and dog: the quick and the lazy, the fox")
OLD = "sentence_transformers.models."
NEW = "sentence_transformers.sentence_transformer.modules."
Pooling = Callable[[Tensor], Tensor]
POOLINGS: dict[str, tuple[dict[str, Any], Pooling]] = {
    "cls": ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, lambda h: h[0]),
    "mean": ({"pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True}, lambda h: h.mean(0)),
    "max and mean": (
        {"pooling_mode_mean_tokens": True, "pooling_mode_max_tokens": True},
        lambda h: torch.cat([h.amax(0), h.mean(0)]),
    ),
    "root": ({"pooling_mode_mean_sqrt_len_tokens": True}, lambda h: h.sum(0) / len(h) ** 0.5),
    "weighted": (
        {"pooling_mode_weightedmean_tokens": True},
        lambda h: sum((n + 1) * row for n, row in enumerate(h)) / (len(h) * (len(h) + 1) / 2),
    ),
    "last": ({"pooling_mode_lasttoken": True}, lambda h: h[-1]),
    "newer, by name": ({"embedding_dimension": 32, "pooling_mode": "cls"}, lambda h: h[0]),
    "newer, several": ({"pooling_mode": ["cls", "max"]}, lambda h: torch.cat([h[0], h.amax(0)])),
}


def write(folder: Path, pooling: dict[str, Any], *steps: str, kind: str = OLD, inside: str = "") -> Path:
    """A tiny BERT as sentence-transformers saves it; ``inside``: the folder of its transformer."""
    checkpoints.make("bert-encoder", folder / inside)
    names = [inside, "1_Pooling", *(f"{number}_{step}" for number, step in enumerate(steps, 2))]
    types = ["Transformer", "Pooling", *steps]
    for name in names[1:]:
        (folder / name).mkdir()
    (folder / "1_Pooling/config.json").write_text(json.dumps(pooling))
    rows = [{"idx": n, "name": str(n), "path": name, "type": kind + types[n]} for n, name in enumerate(names)]
    (folder / "modules.json").write_text(json.dumps(rows))
    return folder


def states(folder: Path, text: str, longest: int | None = None) -> Tensor:
    model = transformers.BertModel.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    ids = tokenizer(text, return_tensors="pt", truncation=longest is not None, max_length=longest)["input_ids"]
    with torch.inference_mode():
        found: Tensor = model(ids).last_hidden_state[0].double()
    return found


def similarity(vectors: list[Tensor]) -> list[float]:
    return [float(torch.cosine_similarity(vectors[0], vector, 0)) for vector in vectors]


def asked(folder: Path, **more: Any) -> EmbeddingsRequest:
    return EmbeddingsRequest(str(folder), precisions=("fp32",), query=TEXTS[0], texts=TEXTS[1:], **more)


@pytest.mark.parametrize("case", POOLINGS)
def test_the_folders_own_pooling_is_followed(case: str, tmp_path: Path) -> None:
    settings, pool = POOLINGS[case]
    folder = write(tmp_path / "model", settings, "Normalize", kind=NEW if case.startswith("newer") else OLD)
    found = embed(asked(folder))
    assert found.reference.similarity[0] == pytest.approx(
        similarity([pool(states(folder, t)) for t in TEXTS]), abs=1e-5
    )
    assert "as the checkpoint's folder says" in found.pooling and "length 1" in found.pooling


def test_an_asked_pooling_overrides(tmp_path: Path) -> None:
    folder = write(tmp_path / "model", POOLINGS["cls"][0])
    assert embed(asked(folder, pooling="mean")).reference.similarity[0] == pytest.approx(
        similarity([states(folder, t).mean(0) for t in TEXTS]), abs=1e-5
    )


def test_dense_prompts_length_and_case_are_followed_in_the_oldest_layout(tmp_path: Path) -> None:
    folder = write(tmp_path / "model", POOLINGS["mean"][0], "Dense", "LayerNorm", inside="0_BERT")
    torch.manual_seed(0)
    linear, norm = nn.Linear(checkpoints.WIDTH, 12), nn.LayerNorm(12)
    nn.init.normal_(norm.weight)
    save_file(
        {f"linear.{name}": tensor for name, tensor in linear.state_dict().items()}, folder / "2_Dense/model.safetensors"
    )
    save_file(
        {f"norm.{name}": tensor for name, tensor in norm.state_dict().items()}, folder / "3_LayerNorm/model.safetensors"
    )
    (folder / "2_Dense/config.json").write_text(json.dumps({"activation_function": "torch.nn.modules.activation.Tanh"}))
    (folder / "0_BERT/sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 9, "do_lower_case": True}))
    prompts = {"prompts": {"query": "fox: ", "passage": "dog "}, "default_prompt_name": None}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(prompts))
    found = embed(asked(folder))
    inner = folder / "0_BERT"
    written = [f"fox: {TEXTS[0]}", *(f"dog {text}" for text in TEXTS[1:])]
    with torch.inference_mode():
        vectors = [
            norm(torch.tanh(linear(states(inner, text.lower(), 9).mean(0).float()))).double() for text in written
        ]
    assert found.dimensions == 12
    assert found.reference.similarity[0] == pytest.approx(similarity(vectors), abs=1e-5)
    notes = " ".join(found.notes)
    assert "'fox: ' stands before the query" in notes and "cut to 9 tokens" in notes
    assert embed(asked(inner)).reference == found.reference  # the folder within says the same


def test_prompts_may_be_left_out_of_the_pooling(tmp_path: Path) -> None:
    folder = write(tmp_path / "model", {"pooling_mode": "mean", "include_prompt": False})
    (folder / "config_sentence_transformers.json").write_text(
        json.dumps({"prompts": {"same": "the dog: "}, "default_prompt_name": "same"})
    )
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    begins = len(tokenizer("the dog: ")["input_ids"]) - 1  # [CLS] and the prompt, without [SEP]
    vectors = [states(folder, f"the dog: {text}")[begins:].mean(0) for text in TEXTS]
    assert embed(asked(folder)).reference.similarity[0] == pytest.approx(similarity(vectors), abs=1e-5)


def test_the_settings_are_part_of_what_is_stored_under(tmp_path: Path) -> None:
    folder = write(tmp_path / "model", POOLINGS["cls"][0])
    before = catalog.identity(asked(folder))
    (folder / "1_Pooling/config.json").write_text(json.dumps(POOLINGS["mean"][0]))
    assert catalog.identity(asked(folder)) != before


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        ("modules.json", '[{"path": "", "type": "T"}, {"path": "x", "type": "a.LSTM"}]', "'LSTM'"),
        ("modules.json", "{", "cannot be read as JSON"),
        ("modules.json", '[{"path": ""}, {"path": "../..", "type": "x.Pooling"}]', "lies outside"),
        ("1_Pooling/config.json", '{"pooling_mode": "sum"}', "pools by sum"),
        ("1_Pooling/config.json", '{"pooling_mode": [3]}', "pools by 3"),
        ("1_Pooling/config.json", "[]", "no JSON object"),
    ],
)
def test_what_cannot_be_followed_is_told_and_a_pooling_can_be_asked_for(
    file: str, text: str, said: str, tmp_path: Path
) -> None:
    folder = write(tmp_path / "model", POOLINGS["cls"][0])
    (folder / file).write_text(text)
    with pytest.raises(QfundError, match=said) as error:
        embed(asked(folder))
    assert "--pooling mean" in str(error.value)
    assert embed(asked(folder, pooling="first")).dimensions == checkpoints.WIDTH


def test_pickled_layers_are_not_read(tmp_path: Path) -> None:
    folder = write(tmp_path / "model", POOLINGS["cls"][0], "Dense")
    (folder / "2_Dense/config.json").write_text("{}")
    (folder / "2_Dense/pytorch_model.bin").write_bytes(b"")
    with pytest.raises((QfundError, UnsupportedModel), match="pickled"):
        embed(asked(folder))
