"""Classes and embeddings, held to plain transformers."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
import transformers

from qfund.core.errors import InvalidInput, UnsupportedModel
from qfund.features.outputs.measure.classify import classify
from qfund.features.outputs.measure.embed import embed
from qfund.features.outputs.request import classes, embeddings
from qfund.features.outputs.request.classes import SCORE, SIGMOID, Classes, ClassesRequest
from qfund.features.outputs.request.embeddings import Embeddings, EmbeddingsRequest
from tests.engine.shipping import ships
from tests.tiny import checkpoints

TEXTS = ("the quick brown fox", "a lazy dog", "dog and fox, fox and dog: the quick and the lazy")


def plain(folder: Path, dtype: torch.dtype = torch.float32) -> Any:
    kind = getattr(transformers, transformers.AutoConfig.from_pretrained(folder).architectures[0])
    return kind.from_pretrained(folder, dtype=dtype).eval()


@pytest.mark.parametrize("name", ["bert-classifier", "gpt2-classifier", "bart-classifier"])
def test_probabilities_are_those_of_plain_forwards(name: str) -> None:
    folder = checkpoints.folder(name)
    found = classify(ClassesRequest(str(folder), precisions=("fp32", "bf16", "int4"), texts=TEXTS))
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    for dtype, precision in ((torch.float32, "fp32"), (torch.bfloat16, "bf16")):
        model = plain(folder, dtype)
        for item, text in zip(found.items, TEXTS, strict=True):
            with torch.inference_mode():
                logits = model(**tokenizer(text, return_tensors="pt", return_token_type_ids=False)).logits[0].double()
            shares = dict(zip(item.labels, item.values[precision], strict=True))
            named = {model.config.id2label[index]: float(share) for index, share in enumerate(logits.softmax(-1))}
            assert shares == pytest.approx(named, rel=1e-5)
            assert item.chosen[precision] == (max(named, key=named.__getitem__),)
            if precision == "fp32":
                top = logits.topk(2).values
                assert item.gap == pytest.approx(float(top[0] - top[1]), abs=1e-5)
    itself = classes.statistics(found, "fp32")
    assert itself is not None and itself.moved is not None and (itself.flips.value, itself.moved.value) == (0, 0)
    assert msgspec.json.decode(msgspec.json.encode(found), type=Classes) == found


def test_pictures_are_classified_too() -> None:
    found = classify(ClassesRequest(str(checkpoints.folder("vit-classifier")), precisions=("bf16", "int2")))
    assert found.reads == "pictures" and len(found.items) == 6
    assert all(sum(item.values[name]) == pytest.approx(1) for item in found.items for name in ("fp32", "bf16", "int2"))
    flips = [item.chosen["int2"] != item.chosen["fp32"] for item in found.items]
    row = classes.statistics(found, "int2")
    assert row is not None and row.flips.value == pytest.approx(np.mean(flips))


@pytest.mark.parametrize(("changes", "reading"), [({"num_labels": 1}, SCORE), ({"num_labels": 3}, SIGMOID)])
def test_scores_and_labels_of_their_own(changes: dict[str, int], reading: str, tmp_path: Path) -> None:
    config = checkpoints.CHECKPOINTS["bert-classifier"].config()
    config.num_labels = changes["num_labels"]
    config.problem_type = "regression" if reading == SCORE else "multi_label_classification"
    torch.manual_seed(1)
    model = transformers.BertForSequenceClassification(config)
    with torch.no_grad():
        model.classifier.bias.copy_(torch.tensor([2.0] if reading == SCORE else [3.0, 3.0, -3.0]))
    checkpoints.write(model, checkpoints.CHECKPOINTS["bert-classifier"], tmp_path)
    found = classify(ClassesRequest(str(tmp_path), precisions=("bf16",), texts=("a dog",)))
    [item] = found.items
    assert found.reading == reading
    if reading == SIGMOID:
        assert set(item.chosen["fp32"]) == {"LABEL_0", "LABEL_1"}
        assert all(0 < value < 1 for value in item.values["fp32"]) and sum(item.values["fp32"]) > 1.5
    else:
        assert item.values["fp32"][0] == pytest.approx(2, abs=0.5) and item.gap is None


def test_what_cannot_be_classified_is_told() -> None:
    with pytest.raises(UnsupportedModel, match="no head that gives classes"):
        classify(ClassesRequest(str(checkpoints.folder("llama")), precisions=("bf16",)))
    with pytest.raises(InvalidInput, match=r"Text 1 is .* tokens long; this model reads at most 40"):
        long = ClassesRequest(
            str(checkpoints.folder("bert-classifier")), precisions=("bf16",), texts=(checkpoints.TEXT,)
        )
        classify(long)


def test_embeddings_are_masked_means_of_plain_forwards() -> None:
    """In one padded batch, whose padding must not count."""
    folder = checkpoints.folder("bert-encoder")
    found = embed(EmbeddingsRequest(str(folder), precisions=("fp32", "bf16"), query=TEXTS[0], texts=TEXTS[1:]))
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    batch = tokenizer(list(TEXTS), return_tensors="pt", padding=True, return_token_type_ids=False)
    assert (batch["attention_mask"] == 0).any()

    def vectors(dtype: torch.dtype) -> torch.Tensor:
        with torch.inference_mode():
            states = plain(folder, dtype)(**batch).last_hidden_state.double()
        mask = batch["attention_mask"][..., None]
        pooled: torch.Tensor = (states * mask).sum(1) / mask.sum(1)
        return pooled

    one, other = vectors(torch.float32), vectors(torch.bfloat16)
    unit = torch.nn.functional.normalize(one, dim=-1)
    assert np.array(found.reference.similarity, float) == pytest.approx((unit @ unit.T).numpy(), abs=1e-5)
    cosines = torch.nn.functional.cosine_similarity(one, other, dim=-1).tolist()
    assert found.candidates["bf16"].cosine == pytest.approx(cosines, abs=2e-5)
    assert found.candidates["fp32"].cosine == pytest.approx([1.0] * 3, abs=1e-12)
    assert embeddings.statistics(found, "fp32").tau == 1
    assert msgspec.json.decode(msgspec.json.encode(found), type=Embeddings) == found


@pytest.mark.parametrize("name", ["llama", "t5", "bart-encoder", "bert-masked"])
def test_any_model_that_reads_text_embeds(name: str) -> None:
    request = EmbeddingsRequest(str(checkpoints.folder(name)), precisions=("fp32", "bf16"), query="fox", texts=TEXTS)
    found = embed(request)
    assert found.dimensions == checkpoints.WIDTH
    assert ("encoder" in found.what) == (name in ("t5", "bart-encoder"))
    assert 0.99 < min(value for value in found.candidates["bf16"].cosine if value is not None) <= 1 + 1e-12


def test_pooling_chooses_the_vector() -> None:
    folder = str(checkpoints.folder("bert-encoder"))
    poolings = {how: embed(EmbeddingsRequest(folder, precisions=("bf16",), pooling=how)) for how in embeddings.POOLINGS}
    assert len({found.reference.similarity for found in poolings.values()}) == 4
    with pytest.raises(UnsupportedModel, match="has no pooler"):
        embed(EmbeddingsRequest(str(checkpoints.folder("llama")), precisions=("bf16",), pooling="pooler"))


def test_what_cannot_be_embedded_is_told() -> None:
    with pytest.raises(UnsupportedModel, match="reads pictures"):
        embed(EmbeddingsRequest(str(checkpoints.folder("vit-classifier")), precisions=("bf16",)))
    with pytest.raises(InvalidInput, match=r"Sentence 2 is .* tokens long"):
        embed(EmbeddingsRequest(str(checkpoints.folder("bert-encoder")), texts=("a", checkpoints.TEXT)))


def test_what_ships_is_of_the_weights_that_are_there() -> None:
    found: Embeddings = ships(embeddings.EXAMPLE)
    fresh = embed(replace(embeddings.EXAMPLE, precisions=("bf16",)))
    assert np.array(fresh.reference.similarity) == pytest.approx(np.array(found.reference.similarity), abs=1e-4)
