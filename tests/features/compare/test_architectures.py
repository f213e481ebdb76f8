"""Every kind of model, end to end: ``compare`` on tiny checkpoints against ``tests/independent.py``."""

import json
import math
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from transformers.pytorch_utils import Conv1D

from qfund.checkpoints import catalog, checkpoint
from qfund.core import codes
from qfund.core.errors import InvalidInput, ModelError, NothingConverted, UnsafeCheckpoint, UnsupportedModel
from qfund.core.metrics.table import METRICS
from qfund.features.compare.measure.compare import compare
from qfund.features.compare.request import report
from qfund.features.compare.request.report import PrecisionResult, Report
from qfund.features.compare.request.spec import Spec
from qfund.inputs import pictures
from qfund.models import inputs as models_inputs
from qfund.models import tasks
from tests import independent
from tests.tiny import checkpoints

CASTS = ("fp32", "bf16", "fp16")
ALL = (*CASTS, "int8")
TEXT = checkpoints.TEXT + "\nNaïve café — 日本 🙂, und Ähnliches.\n"


@dataclass(frozen=True, slots=True)
class Case:
    """What is known of a checkpoint beforehand.

    Attributes:
        task: a name of ``qfund.models.tasks.TASKS``.
        context: tokens a chunk, with those that the tokenizer puts ``before`` and ``after`` a text.
        batch: makes one forward's arguments of rows of tokens.
        left: the Linear and Conv1D modules that int8 leaves alone.
        alone: every chunk is run by itself.
    """

    task: str
    context: int = 0
    before: tuple[int, ...] = ()
    after: tuple[int, ...] = ()
    batch: Callable[[torch.Tensor], independent.Batch] = independent.plain
    left: tuple[str, ...] = ()
    alone: bool = False


def _bert_masked(ids: torch.Tensor) -> independent.Batch:
    return independent.masked(ids, special=range(5), mask=4)  # [PAD] [UNK] [CLS] [SEP] [MASK]; or <s> … <mask>


def _both_ends(ids: torch.Tensor) -> independent.Batch:
    return replace(independent.plain(ids), arguments={"input_ids": ids, "decoder_input_ids": ids})


_CAUSAL = Case("causal language model", 64, batch=independent.causal, left=("lm_head",))
_WITH_BOS = replace(_CAUSAL, before=(1,))
_SEQ2SEQ = Case("sequence-to-sequence model", batch=independent.sequence_to_sequence, left=("lm_head",))
_BERT = Case("", 40, before=(2,), after=(3,))
_ROBERTA = Case("", 40, before=(0,), after=(2,))

CASES: dict[str, Case] = {
    "llama": _WITH_BOS,
    "llama-untied": _CAUSAL,
    "llama-sharded": _CAUSAL,
    "llama-stored-bf16": _WITH_BOS,
    "mistral": _WITH_BOS,
    "qwen3": _CAUSAL,
    "gemma2": _WITH_BOS,
    "gemma3": _WITH_BOS,
    "phi": _CAUSAL,
    "gpt2": replace(_CAUSAL, context=48),
    "gpt-neox": _CAUSAL,
    "opt": _WITH_BOS,
    "bloom": replace(_CAUSAL, context=512),
    "falcon": replace(_CAUSAL, context=512),
    "mixtral": _WITH_BOS,
    "mamba": replace(_CAUSAL, context=512),
    "bert-decoder": replace(
        _BERT, task="causal language model", batch=independent.causal, left=("cls.predictions.decoder",)
    ),
    "t5": replace(_SEQ2SEQ, context=512, after=(1,)),
    "bart": replace(_SEQ2SEQ, context=40, before=(0,), after=(2,)),
    "bert-masked": replace(_BERT, task="masked language model", batch=_bert_masked, left=("cls.predictions.decoder",)),
    # 34 rows of positions, of which the first two are the padding's.
    "roberta-masked": replace(
        _ROBERTA, task="masked language model", context=32, batch=_bert_masked, left=("lm_head.decoder",)
    ),
    "bert-classifier": replace(_BERT, task="sequence classifier"),
    "gpt2-classifier": Case("sequence classifier", 48, alone=True),
    "bart-classifier": replace(_ROBERTA, task="sequence classifier"),
    "distilbert-tokens": replace(_BERT, task="token classifier"),
    "bert-encoder": replace(_BERT, task="text encoder"),
    "t5-encoder": Case("text encoder", 512, after=(1,)),
    "bart-encoder": replace(_ROBERTA, task="encoder", batch=_both_ends),
    "vit-classifier": Case("image classifier"),
    "resnet-classifier": Case("image classifier"),
    "convnext-classifier": Case("image classifier"),
    "vit-encoder": Case("image encoder"),
    "resnet-encoder": Case("image encoder"),
    "blip": Case("vision-to-text model", left=("text_decoder.cls.predictions.decoder",)),
    "vision-gpt2": Case("vision-to-text model", left=("decoder.lm_head",)),
}
#: Those whose outputs are distributions over tokens.
PREDICTING = [
    name for name, case in CASES.items() if case.task.endswith(("language model", "sequence model", "text model"))
]


def test_every_checkpoint_is_compared() -> None:
    assert CASES.keys() == checkpoints.CHECKPOINTS.keys()


def _reads_text(name: str) -> bool:
    return bool(CASES[name].context)


@cache
def measured(name: str) -> Report:
    text = TEXT if _reads_text(name) else None
    return compare(Spec(str(checkpoints.folder(name)), precisions=ALL, text=text))


def _rows(name: str, text: str = TEXT) -> list[list[int]]:
    """The chunks that a text model should read, with the special tokens in place."""
    case = CASES[name]
    ids = independent.tokens(checkpoints.folder(name), text)
    room = case.context - len(case.before) - len(case.after)
    return [[*case.before, *ids[start : start + room], *case.after] for start in range(0, len(ids), room)]


def _picture_batches(name: str) -> list[independent.Batch]:
    drawn = pictures.draw()
    images = [picture.image for picture in drawn]
    values = independent.pixels(images, 224 if "resnet" in name else 32)
    if checkpoints.CHECKPOINTS[name].processor:
        processor = transformers.ViTImageProcessorPil.from_pretrained(checkpoints.folder(name))
        values = processor(images, return_tensors="pt")["pixel_values"]
    if name not in ("blip", "vision-gpt2"):
        return [independent.Batch({"pixel_values": values}, np.empty(0, np.int64))]
    made = []
    for index, picture in enumerate(drawn):
        ids, pixel_values = independent.tokens(checkpoints.folder(name), picture.caption), values[index : index + 1]
        if name == "blip":  # token 4 begins a caption and [SEP] ends it
            row = torch.tensor([[4, *ids, 3]])
            made.append(
                independent.Batch({"pixel_values": pixel_values, "input_ids": row}, independent.next_tokens(row))
            )
        else:
            row = torch.tensor([ids])
            made.append(independent.Batch({"pixel_values": pixel_values, "labels": row}, row.numpy()))
    return made


def batches_of(name: str) -> list[independent.Batch]:
    case = CASES[name]
    if not _reads_text(name):
        return _picture_batches(name)
    return [case.batch(ids) for ids in independent.batches(_rows(name), 1 if case.alone else 64)]


def _model(name: str, precision: str) -> Any:
    folder = checkpoints.folder(name)
    if precision == "int8":
        return independent.rounded(independent.load(folder, torch.float32), CASES[name].left)
    return independent.load(folder, independent.DTYPES[precision])


@cache
def outputs(name: str, precision: str) -> independent.Outputs:
    only_targets = CASES[name].task == "masked language model"
    return independent.run(_model(name, precision), batches_of(name), only_targets)


def _result(name: str, precision: str) -> PrecisionResult:
    return next(result for result in measured(name).results if result.precision == precision)


def assert_agrees(found: PrecisionResult, wanted: dict[str, independent.Number]) -> None:
    """The same metrics, and each with the same value, standard error and number of positions."""
    assert set(found.fidelity) == set(wanted)
    for name, number in wanted.items():
        estimate = found.fidelity[name]
        assert estimate.value == pytest.approx(number.value, rel=1e-9, abs=1e-14), name
        assert estimate.n == number.n, name
        if number.se is None:
            assert estimate.se is None, name
        else:
            assert estimate.se == pytest.approx(number.se, rel=1e-6, abs=1e-14), name


@pytest.mark.parametrize(("name", "precision"), [(name, p) for name in CASES for p in ALL])
def test_numbers_are_those_of_plain_models(name: str, precision: str) -> None:
    reference, candidate = outputs(name, "fp32"), outputs(name, precision)
    hidden = "encoder" in CASES[name].task
    statistics = independent.of_hidden if hidden else independent.of_logits
    assert_agrees(_result(name, precision), statistics(reference, candidate))
    if precision != "fp32":
        # Were the models nearly equal, agreement would prove nothing.
        assert np.abs(candidate.values - reference.values).max() > 1e-4


@pytest.mark.parametrize("name", CASES)
def test_the_reference_as_candidate_differs_by_exactly_nothing(name: str) -> None:
    found = _result(name, "fp32").fidelity
    for metric, estimate in found.items():
        perfect = METRICS[metric].perfect
        if "cosine" in metric:
            assert estimate.value == pytest.approx(1.0, abs=1e-15), metric
        elif perfect is not None:
            assert estimate.value == perfect, metric
    assert not any("sqnr" in metric for metric in found), "without noise there is no ratio to it"
    differences = _result(name, "fp32").differences
    assert differences is not None and not any(differences.counts) and differences.zeros > 0


@pytest.mark.parametrize("name", CASES)
def test_report_says_what_was_run(name: str) -> None:
    found = measured(name)
    assert (name in PREDICTING) == (found.tokens is not None) == ("perplexity" in found.reference.fidelity)
    assert found.model.architecture == checkpoints.CHECKPOINTS[name].architecture
    assert found.model.task == CASES[name].task
    assert found.reference.precision == "fp32"
    assert [result.precision for result in found.results] == list(ALL)
    plain = independent.load(checkpoints.folder(name), torch.float32)
    assert found.model.parameters == sum(parameter.numel() for parameter in plain.parameters())
    if _reads_text(name):
        assert found.input.context == CASES[name].context
        assert found.input.tokens == len(independent.tokens(checkpoints.folder(name), TEXT))
        assert found.input.chunks == len(_rows(name))
    else:
        assert found.input.source == "pictures" and found.input.chunks == len(pictures.draw())
    assert report.from_json(report.to_json(found)) == found


@pytest.mark.parametrize("name", PREDICTING)
def test_perplexity_is_the_exponential_of_transformers_own_loss(name: str) -> None:
    own = measured(name).reference.fidelity["perplexity"]
    number = independent.perplexity(outputs(name, "fp32"))
    assert own.value == pytest.approx(number.value, rel=1e-9) and own.n == number.n
    assert own.se == pytest.approx(number.se, rel=1e-9)
    if name == "blip":
        return  # its loss smooths labels
    model, losses, counts = _model(name, "fp32"), [], []
    for batch in batches_of(name):
        arguments = dict(batch.arguments)
        if CASES[name].task == "causal language model":
            arguments["labels"] = arguments["input_ids"]
        elif "labels" not in arguments:
            arguments["labels"] = torch.from_numpy(np.where(batch.targets < 0, -100, batch.targets))
        with torch.inference_mode():
            losses.append(float(model(**arguments).loss))
        counts.append(int((batch.targets >= 0).sum()))
    loss = np.average(losses, weights=counts)
    assert own.value == pytest.approx(math.exp(loss), rel=1e-5)


@pytest.mark.parametrize("name", [name for name in CASES if _reads_text(name)])
def test_rows_of_a_batch_do_not_mix(name: str) -> None:
    """Chunks run one by one give the same, up to the rounding of other kernels: batches leak nothing."""
    one_by_one = [CASES[name].batch(ids) for ids in independent.batches(_rows(name), 1)]
    only_targets = CASES[name].task == "masked language model"
    alone = independent.run(_model(name, "fp32"), one_by_one, only_targets)
    np.testing.assert_allclose(outputs(name, "fp32").values, alone.values, atol=2e-4)


# ---- what int8 converts and leaves


def _modules_with_matrices(model: Any) -> dict[str, Any]:
    return {
        name: module
        for name, module in model.named_modules()
        if any(parameter.dim() > 1 for parameter in module.parameters(recurse=False))
    }


@pytest.mark.parametrize("name", CASES)
def test_int8_converts_every_multiplication_but_the_head(name: str) -> None:
    result, modules = _result(name, "int8"), _modules_with_matrices(_model(name, "fp32"))
    kinds = torch.nn.Linear | Conv1D | torch.nn.Conv1d | torch.nn.Conv2d
    multiplying = {
        name for name, module in modules.items() if isinstance(module, kinds) or name.endswith(".mlp.experts")
    }
    heads = set(CASES[name].left)
    assert heads <= multiplying
    left = {row.name: row for row in result.left_modules}
    assert set(result.converted_modules) == multiplying - heads
    assert (result.converted, result.left) == (len(multiplying - heads), len(left))
    assert left.keys() == modules.keys() - multiplying | heads
    assert all(row.kind == type(modules[row.name]).__name__ and row.why for row in left.values())
    assert all(left[head].why.startswith("the output head") for head in heads)


@pytest.mark.parametrize(
    ("name", "module", "why"),
    [
        ("llama", "model.embed_tokens", "an embedding"),
        ("opt", "model.decoder.embed_positions", "an embedding"),
        ("mixtral", "model.layers.1.mlp.gate", "weight [4, 32]"),
        ("mamba", "backbone.layers.0.mixer", "A_log [64, 4]"),
        ("vit-classifier", "vit.embeddings", "cls_token [1, 1, 32]"),
    ],
)
def test_what_int8_leaves_is_named_with_the_reason(name: str, module: str, why: str) -> None:
    left = {row.name: row.why for row in _result(name, "int8").left_modules}
    assert why in left[module]


def test_a_precision_that_would_convert_nothing_is_refused() -> None:
    """All that this ResNet has are convolutions, whose activations are out of reach."""
    with pytest.raises(NothingConverted, match="ResNetModel"):
        compare(Spec(str(checkpoints.folder("resnet-encoder")), precisions=("int8_dynamic",)))


# ---- the token map


@pytest.mark.parametrize("name", PREDICTING)
def test_token_map_lines_up_with_the_logits(name: str) -> None:
    found = measured(name)
    tokens = found.tokens
    assert tokens is not None
    tokenizer = Tokenizer.from_file(str(checkpoints.folder(name) / "tokenizer.json"))
    reference = outputs(name, "fp32").values
    places = [place for place, alternatives in enumerate(tokens.reference.tokens) if alternatives]
    assert len(places) == len(reference)
    assert tokens.total == len(tokens.pieces) == len(tokens.reference.tokens)
    for place, logits in zip(places, reference, strict=True):
        p = np.exp(independent.log_softmax(logits[None]))[0]
        best = tokens.reference.tokens[place]
        assert len(best) == 5
        decoded = tokenizer.decode([int(p.argmax())], skip_special_tokens=False)
        assert tokens.vocabulary[best[0]] == decoded or not decoded.strip()
        np.testing.assert_allclose(tokens.reference.probabilities[place], np.sort(p)[::-1][:5], rtol=1e-3)
    for precision in ("bf16", "int8"):
        candidate, q = tokens.candidates[precision], outputs(name, precision).values
        log_p, log_q = independent.log_softmax(reference), independent.log_softmax(q)
        kl = (np.exp(log_p) * (log_p - log_q)).sum(-1)
        same = reference.argmax(-1) == q.argmax(-1)
        assert [candidate.same_top1[place] for place in places] == same.tolist()
        shown = [float(value) for place in places if (value := candidate.kl[place]) is not None]
        np.testing.assert_allclose(shown, kl, rtol=1e-3)
        difference = [float(value) for place in places if (value := candidate.mean_abs[place]) is not None]
        np.testing.assert_allclose(difference, np.abs(q - reference).mean(-1), rtol=1e-3)
        nowhere = set(range(tokens.total)) - set(places)
        assert all(candidate.kl[place] is None for place in nowhere)


@pytest.mark.parametrize(
    "name", [name for name, case in CASES.items() if case.batch is independent.causal and not case.after]
)
def test_pieces_of_a_byte_level_tokenizer_are_the_text(name: str) -> None:
    """Characters of several tokens stand in the first one; the others show what a lone byte decodes to."""
    tokens = measured(name).tokens
    assert tokens is not None and tokens.predicts_next
    rows = _rows(name)
    assert tokens.chunk_starts == tuple(np.cumsum([0, *(len(row) for row in rows)])[:-1].tolist())
    before = len(CASES[name].before)
    ends = [*tokens.chunk_starts[1:], tokens.total]
    own = [
        piece
        for start, end in zip(tokens.chunk_starts, ends, strict=True)
        for piece in tokens.pieces[start:end][before:]
    ]
    assert "".join(own).replace("\N{REPLACEMENT CHARACTER}", "") == TEXT
    if before:
        assert all(tokens.pieces[start] == "<s>" for start in tokens.chunk_starts)


def test_pieces_of_words_hold_the_spaces_before_them() -> None:
    tokens = measured("bert-masked").tokens
    assert tokens is not None and not tokens.predicts_next
    assert tokens.pieces[:3] == ("[CLS]", "The", " quick")
    own = [piece for piece in tokens.pieces if piece not in ("[CLS]", "[SEP]")]
    assert "".join(own) == TEXT.rstrip()


@pytest.mark.parametrize("name", ["t5", "bart", "vision-gpt2"])
def test_a_decoder_that_repeats_predicts_the_token_itself(name: str) -> None:
    tokens = measured(name).tokens
    assert tokens is not None and not tokens.predicts_next


@pytest.mark.parametrize(("name", "together"), [("llama", 64), ("roberta-masked", 128)])
def test_a_long_text_runs_in_batches_and_shows_its_start(name: str, together: int) -> None:
    """Batches hold 4096 tokens; the map colours every position and keeps the first 1024 in full, and the worst."""
    text, case = TEXT * 30, CASES[name]
    found = compare(Spec(str(checkpoints.folder(name)), precisions=("int8",), text=text))
    rows = _rows(name, text)
    assert len(rows) > together
    inputs = [case.batch(ids) for ids in independent.batches(rows, together)]
    only_targets = case.task == "masked language model"
    reference, candidate = (independent.run(_model(name, p), inputs, only_targets) for p in ("fp32", "int8"))
    assert_agrees(found.results[0], independent.of_logits(reference, candidate))
    tokens = found.tokens
    assert tokens is not None
    assert tokens.total == len(tokens.pieces) == sum(map(len, rows))
    log_p, log_q = independent.log_softmax(reference.values), independent.log_softmax(candidate.values)
    kl = (np.exp(log_p) * (log_p - log_q)).sum(-1)
    every = codes.read_magnitudes(tokens.candidates["int8"].every_kl)
    compared = np.flatnonzero(every >= 0)
    np.testing.assert_allclose(every[compared], kl, rtol=2**-8)
    assert len(compared) == (tokens.total if name == "llama" else sum(len(range(3, len(row) - 1, 7)) for row in rows))
    least = np.sort(kl)[-192]  # chunks repeat themselves in this text, so several positions may have it
    assert tokens.detailed[:1024] == tuple(range(1024)) and set(compared[kl > least * (1 + 1e-9)]) <= {*tokens.detailed}
    assert all(kl[compared == place] > least * (1 - 1e-9) for place in tokens.detailed[1024:])
    at = dict(zip(compared.tolist(), kl, strict=True))
    shown = dict(zip(tokens.detailed, tokens.candidates["int8"].kl, strict=True))
    assert {place for place, value in shown.items() if value is not None} == shown.keys() & at.keys()
    for place in shown.keys() & at.keys():
        assert shown[place] == pytest.approx(at[place], rel=1e-3)


# ---- one row a precision


@pytest.mark.parametrize("name", ["gpt2", "bert-masked", "vit-classifier", "t5-encoder"])
@pytest.mark.parametrize(("reference", "candidate"), [("fp32", "fp64"), ("fp64", "fp32"), ("fp64", "int8")])
def test_double_precision_is_a_yardstick(name: str, reference: str, candidate: str) -> None:
    text = TEXT if _reads_text(name) else None
    spec = Spec(str(checkpoints.folder(name)), reference=reference, precisions=(candidate,), text=text)
    found = compare(spec)
    hidden = "encoder" in CASES[name].task
    statistics = independent.of_hidden if hidden else independent.of_logits
    wanted = statistics(outputs(name, reference), outputs(name, candidate))
    result = found.results[0]
    if {reference, candidate} == {"fp32", "fp64"}:
        # So close that KL is rounding (it is clamped at 0), and a difference of perplexities has few digits.
        rounding = {metric for metric in wanted if metric.startswith("kl_")} | {"perplexity_diff"} & wanted.keys()
        for metric in rounding:
            assert result.fidelity[metric].value == pytest.approx(wanted.pop(metric).value, abs=1e-11), metric
        result = replace(result, fidelity={k: v for k, v in result.fidelity.items() if k not in rounding})
    assert_agrees(result, wanted)
    doubled = found.reference if reference == "fp64" else result
    assert doubled.footprint_bytes == doubled.predicted_bytes == doubled.transformers_bytes
    assert set(doubled.dtypes) <= {"float64", "float32", "int64"} and "float64" in doubled.dtypes


def test_fp64_is_gpt2_written_out_in_float64() -> None:
    found = compare(Spec(str(checkpoints.folder("gpt2")), reference="fp64", precisions=("fp32",), text=TEXT))
    folder, rows = checkpoints.folder("gpt2"), [np.array(row) for row in _rows("gpt2")]
    logits = np.concatenate([independent.gpt2(folder, row) for row in rows])
    targets = np.concatenate([independent.next_tokens(torch.tensor(row)[None])[0] for row in rows])
    exact = independent.Outputs(logits, targets, None)
    wanted = independent.perplexity(exact)
    # transformers computes the softmax of attention in float64 too; the rest is rounding.
    assert found.reference.fidelity["perplexity"].value == pytest.approx(wanted.value, rel=1e-12)
    statistics = independent.of_logits(exact, outputs("gpt2", "fp32"))
    for metric in ("mean_abs_logit_diff", "max_abs_logit_diff"):
        assert found.results[0].fidelity[metric].value == pytest.approx(statistics[metric].value, rel=1e-6)
    assert measured("gpt2").reference.fidelity["perplexity"].value == pytest.approx(wanted.value, rel=1e-6)


# ---- checkpoints that are stored in other ways


def test_a_sharded_checkpoint_is_that_of_one_file(tmp_path: Path) -> None:
    assert len(list(checkpoints.folder("llama-sharded").glob("*.safetensors"))) > 2
    whole, parts = measured("llama-untied"), measured("llama-sharded")
    assert [result.fidelity for result in whole.results] == [result.fidelity for result in parts.results]
    assert whole.model == parts.model


def test_an_old_gpt2_checkpoint_loads_as_transformers_loads_it(tmp_path: Path) -> None:
    """OpenAI's files lack the prefix, and hold the causal mask as a tensor: neither counts nor changes anything."""
    shutil.copytree(checkpoints.folder("gpt2"), tmp_path, dirs_exist_ok=True)
    stored = load_file(tmp_path / "model.safetensors")
    old = {name.removeprefix("transformer."): tensor for name, tensor in stored.items()}
    mask = torch.ones(1, 1, 48, 48).tril()
    save_file(
        old | {f"h.{i}.attn.bias": mask.clone() for i in range(2)}, tmp_path / "model.safetensors", {"format": "pt"}
    )
    found = compare(Spec(str(tmp_path), precisions=ALL, text=TEXT))
    assert [result.fidelity for result in found.results] == [result.fidelity for result in measured("gpt2").results]
    assert [result.tensors for result in found.results] == [result.tensors for result in measured("gpt2").results]


def test_dtypes_of_the_files_are_told_apart_from_those_of_the_model() -> None:
    found = measured("llama-stored-bf16")
    assert set(found.model.checkpoint_dtypes) == {"BF16"}
    assert found.reference.dtypes.keys() == {"float32"}
    # The weights are the same numbers in both, but bf16 rounds every sum.
    assert _result("llama-stored-bf16", "bf16").fidelity["kl_mean"].value > 0


# ---- numbers that leave the range


def _scaled(tmp_path: Path, name: str, tensor: str, factor: float) -> Path:
    shutil.copytree(checkpoints.folder(name), tmp_path, dirs_exist_ok=True)
    stored = load_file(tmp_path / "model.safetensors")
    stored[tensor] *= factor
    save_file(stored, tmp_path / "model.safetensors", {"format": "pt"})
    return tmp_path


def _plain_outputs(folder: Path, precision: str) -> independent.Outputs:
    model = independent.load(folder, independent.DTYPES[precision])
    return independent.run(model, batches_of("llama-untied"))


def _numbers(found: Any) -> list[float]:
    if isinstance(found, dict):
        return [number for value in found.values() for number in _numbers(value)]
    if isinstance(found, list):
        return [number for value in found for number in _numbers(value)]
    return [found] if isinstance(found, float) else []


@pytest.mark.parametrize(
    ("tensor", "factor", "share"),
    [
        # Some positions overflow inside, and all after them in their chunk; the norm at the end brings the rest back.
        ("model.layers.1.mlp.down_proj.weight", 4e4, (0.05, 0.999)),
        # The weights overflow themselves: nothing is left to measure.
        ("model.layers.0.mlp.down_proj.weight", 1e6, (1.0, 1.0)),
        # Only some logits do; the others are so far apart that no perplexity is a finite number.
        ("lm_head.weight", 1.8e4, (0.05, 0.999)),
    ],
)
def test_logits_that_are_not_finite_are_counted_and_left_out(
    tmp_path: Path, tensor: str, factor: float, share: tuple[float, float]
) -> None:
    folder = _scaled(tmp_path, "llama-untied", tensor, factor)
    found = compare(Spec(str(folder), precisions=("bf16", "fp16", "int8"), text=TEXT))
    reference, fp16 = _plain_outputs(folder, "fp32"), _plain_outputs(folder, "fp16")
    lost = int((~np.isfinite(fp16.values).all(-1)).sum())
    assert np.isfinite(reference.values).all()
    assert share[0] <= lost / len(fp16.values) <= share[1]
    by_name = {result.precision: result for result in found.results}
    assert {name: result.nonfinite_positions for name, result in by_name.items()} == {
        "bf16": 0,
        "fp16": lost,
        "int8": 0,
    }
    assert found.reference.nonfinite_positions == 0
    # The others are what they would be without fp16 beside them.
    without = compare(Spec(str(folder), precisions=("bf16", "int8"), text=TEXT))
    assert [result.fidelity for result in without.results] == [by_name["bf16"].fidelity, by_name["int8"].fidelity]
    if lost < len(fp16.values):
        wanted = independent.of_logits(reference, fp16)
        finite = {name: number for name, number in wanted.items() if math.isfinite(number.value)}
        assert ("perplexity" in finite) == (tensor != "lm_head.weight")
        assert ("perplexity" in found.reference.fidelity) == ("perplexity" in finite)
        assert_agrees(by_name["fp16"], finite)
    else:
        assert by_name["fp16"].fidelity == {}
    document = report.to_json(found)
    assert all(math.isfinite(number) for number in _numbers(json.loads(document)))
    assert b"NaN" not in document and b"Infinity" not in document
    assert report.from_json(document) == found
    assert found.tokens is not None
    nowhere = [kl is None for kl in found.tokens.candidates["fp16"].kl]
    assert nowhere == (~np.isfinite(fp16.values).all(-1)).tolist()


def test_a_reference_that_is_not_finite_spoils_only_its_own_positions(tmp_path: Path) -> None:
    folder = _scaled(tmp_path, "llama-untied", "model.layers.1.mlp.down_proj.weight", 4e4)
    found = compare(Spec(str(folder), reference="fp16", precisions=("fp32",), text=TEXT))
    fp16, fp32 = _plain_outputs(folder, "fp16"), _plain_outputs(folder, "fp32")
    lost = int((~np.isfinite(fp16.values).all(-1)).sum())
    assert found.reference.nonfinite_positions == found.results[0].nonfinite_positions == lost > 0
    assert_agrees(found.results[0], independent.of_logits(fp16, fp32))
    assert found.reference.fidelity["perplexity"].value == pytest.approx(independent.perplexity(fp16).value, rel=1e-9)


def test_random_numbers_of_a_model_are_the_same_in_every_precision(tmp_path: Path) -> None:
    """ViT-MAE masks patches at random even in evaluation."""
    config = transformers.ViTMAEConfig(
        hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, image_size=32, patch_size=8
    )
    checkpoints.build(checkpoints.Tiny("ViTMAEModel", lambda: config)).save_pretrained(tmp_path)
    found = compare(Spec(str(tmp_path), precisions=("fp32", "bf16")))
    assert found.results[0].fidelity["max_abs_hidden_diff"].value == 0.0
    assert found.results[1].fidelity["max_abs_hidden_diff"].value < 0.5
    torch.manual_seed(17)
    state = torch.random.get_rng_state()
    again = compare(Spec(str(tmp_path), precisions=("fp32", "bf16")))
    assert again.results[1].fidelity == found.results[1].fidelity
    assert torch.equal(torch.random.get_rng_state(), state)


# ---- input


@pytest.mark.parametrize(
    ("name", "spec", "message"),
    [
        ("bert-masked", {"text": "a b"}, "too short"),
        ("llama", {"text": " \n "}, "empty"),
        ("llama", {"text": "a"}, "1 token long"),
        ("llama", {"text": "a b c d", "max_tokens": 1}, "1 token long"),
        ("llama", {"text": "a b c", "context": 65}, "at most 64 tokens"),
        ("roberta-masked", {"text": "a b c", "context": 33}, "at most 32 tokens"),
        ("bert-masked", {"text": "a b c", "context": 2}, "no room"),
        ("vit-classifier", {"text": "a picture"}, "reads no text"),
        ("blip", {"text": " "}, "empty"),
        ("blip", {"text": "a b c", "context": 40}, "at most 32 tokens"),
    ],
)
def test_input_that_cannot_be_measured_is_refused(name: str, spec: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        compare(Spec(str(checkpoints.folder(name)), precisions=("bf16",), **spec))


def test_a_long_caption_is_cut_to_the_context_and_said_so() -> None:
    found = compare(Spec(str(checkpoints.folder("blip")), precisions=("bf16",), text=TEXT))
    assert found.input.tokens == 30 * len(pictures.draw())
    assert any("The first 30 of" in note for note in found.input.notes)
    ids = independent.tokens(checkpoints.folder("blip"), TEXT)[:30]
    row = torch.tensor([[4, *ids, 3]])
    made = [
        replace(b, arguments={**b.arguments, "input_ids": row}, targets=independent.next_tokens(row))
        for b in batches_of("blip")
    ]
    wanted = independent.perplexity(independent.run(_model("blip", "fp32"), made))
    assert found.reference.fidelity["perplexity"].value == pytest.approx(wanted.value, rel=1e-9)


def test_pictures_go_through_the_models_own_processor() -> None:
    spec = Spec(str(checkpoints.folder("vit-encoder")), precisions=("bf16",))
    found = checkpoint.read(checkpoints.folder("vit-encoder"))
    prepared = models_inputs.prepare(spec, catalog.locate(spec.model), found, tasks.task_of(found))
    assert any("the model's own image processor" in note for note in prepared.facts.notes)
    images = [picture.image.resize((32, 32), 2) for picture in pictures.draw()]  # 2: bilinear
    stack = np.stack([np.asarray(image, np.float64) for image in images]) / 255
    wanted = ((stack - [0.2, 0.4, 0.6]) / [0.5, 0.25, 0.125]).transpose(0, 3, 1, 2)
    np.testing.assert_allclose(prepared.batches[0].arguments["pixel_values"].numpy(), wanted, atol=1e-5)


def test_pictures_take_the_size_and_channels_of_the_config(tmp_path: Path) -> None:
    config = transformers.ViTConfig(
        hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=4, patch_size=8, num_channels=1
    )
    config.image_size = (16, 24)
    checkpoints.build(checkpoints.Tiny("ViTForImageClassification", lambda: config)).save_pretrained(tmp_path)
    found = compare(Spec(str(tmp_path), precisions=("bf16",)))
    assert any("24×16 pixels" in note for note in found.input.notes)


def test_special_tokens_are_found_where_the_vocabulary_is_small(tmp_path: Path) -> None:
    """A tokenizer that knows no letter ``a`` still tells what it puts around a text."""
    shutil.copytree(checkpoints.folder("bert-encoder"), tmp_path, dirs_exist_ok=True)
    path = tmp_path / "tokenizer.json"
    document = json.loads(path.read_text())
    document["normalizer"] = {"type": "Replace", "pattern": {"Regex": "^a$"}, "content": ""}
    path.write_text(json.dumps(document))
    found = compare(Spec(str(tmp_path), precisions=("bf16",), text="the dog and the fox", context=5))
    assert (found.input.tokens, found.input.chunks) == (5, 2)


def test_a_classifier_with_padding_reads_chunks_together(tmp_path: Path) -> None:
    """With a padding token that does not occur in the text, batches are allowed and give what single chunks give."""
    shutil.copytree(checkpoints.folder("gpt2-classifier"), tmp_path, dirs_exist_ok=True)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"pad_token_id": 2}))
    together = compare(Spec(str(tmp_path), precisions=("int8",), text=TEXT)).results[0].fidelity
    alone = _result("gpt2-classifier", "int8").fidelity
    for metric, estimate in alone.items():
        assert together[metric].value == pytest.approx(estimate.value, rel=1e-2), metric


def test_a_decoder_starts_as_the_generation_config_says_where_the_config_is_silent(tmp_path: Path) -> None:
    shutil.copytree(checkpoints.folder("t5"), tmp_path, dirs_exist_ok=True)
    for name, start in (("config.json", None), ("generation_config.json", 7)):
        document = json.loads((tmp_path / name).read_text()) | {"decoder_start_token_id": start}
        (tmp_path / name).write_text(json.dumps({key: value for key, value in document.items() if value is not None}))
    found = compare(Spec(str(tmp_path), precisions=("bf16",), text=TEXT)).reference.fidelity["perplexity"]
    ids = torch.tensor(_rows("t5"))
    shifted = torch.cat([torch.full_like(ids[:, :1], 7), ids[:, :-1]], 1)
    arguments = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "decoder_input_ids": shifted}
    wanted = independent.run(_model("t5", "fp32"), [independent.Batch(arguments, ids.numpy())])
    assert found.value == pytest.approx(independent.perplexity(wanted).value, rel=1e-9)


def test_a_tokenizer_without_files_or_offsets(tmp_path: Path) -> None:
    """ByT5's tokens are bytes: there is no vocabulary to store, and transformers' Python code does it."""
    config = checkpoints.CHECKPOINTS["t5"].config()
    config.vocab_size = 384
    tiny = checkpoints.Tiny("T5ForConditionalGeneration", lambda: config, transformers.ByT5Tokenizer)
    checkpoints.write(checkpoints.build(tiny), tiny, tmp_path)
    found = compare(Spec(str(tmp_path), precisions=("bf16",), text="no offsets"))
    assert found.tokens is not None and found.tokens.pieces == (*"no offsets", "</s>")


def test_a_head_with_one_output_is_said_to_give_no_distribution(tmp_path: Path) -> None:
    config = checkpoints.CHECKPOINTS["bert-classifier"].config()
    config.num_labels = 1
    tiny = checkpoints.Tiny("BertForSequenceClassification", lambda: config, checkpoints.word_piece)
    checkpoints.write(checkpoints.build(tiny), tiny, tmp_path)
    found = compare(Spec(str(tmp_path), precisions=("bf16",), text=TEXT))
    assert any("one number" in note for note in found.input.notes)
    assert found.results[0].fidelity["mean_abs_logit_diff"].value > 0


# ---- refusals


def _empty_checkpoint(folder: Path, config: dict[str, Any]) -> Path:
    (folder / "config.json").write_text(json.dumps(config))
    save_file({"weight": torch.zeros(1)}, folder / "model.safetensors", {"format": "pt"})
    return folder


def _two_vocabularies() -> Any:
    return transformers.MarianConfig(vocab_size=300, decoder_vocab_size=200, share_encoder_decoder_embeddings=False)


@pytest.mark.parametrize(
    ("architecture", "config", "why"),
    [
        ("WhisperForConditionalGeneration", transformers.WhisperConfig, "head is of no kind"),
        ("WhisperModel", transformers.WhisperConfig, "does not read text"),
        ("BertForPreTraining", transformers.BertConfig, "head is of no kind"),
        ("BertForQuestionAnswering", transformers.BertConfig, "head is of no kind"),
        ("CLIPModel", transformers.CLIPConfig, "neither text nor single pictures"),
        ("Wav2Vec2Model", transformers.Wav2Vec2Config, "does not read text"),
        ("ImageGPTForImageClassification", transformers.ImageGPTConfig, "does not read pictures"),
        ("BertLMHeadModel", transformers.BertConfig, "depend on later tokens"),
        ("XLNetLMHeadModel", transformers.XLNetConfig, "depend on later tokens"),
        ("MarianMTModel", _two_vocabularies, "different vocabularies"),
        ("NoSuchForCausalLM", transformers.LlamaConfig, "head is of no kind"),
    ],
)
def test_what_is_not_supported_says_so_by_name(tmp_path: Path, architecture: str, config: Any, why: str) -> None:
    folder = _empty_checkpoint(tmp_path, config().to_dict() | {"architectures": [architecture]})
    with pytest.raises(UnsupportedModel, match=why) as caught:
        compare(Spec(str(folder), precisions=("bf16",), text="a text"))
    assert caught.value.message.startswith(f"{architecture} is not supported")
    assert "causal language model" in caught.value.remedy


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            {"architectures": ["LlamaForCausalLM"], "quantization_config": {"quant_method": "gptq", "bits": 4}},
            "quantization_config is left over",
        ),
        ({"model_type": "llama"}, "names no architecture"),
        ({"model_type": "llama", "architectures": "LlamaModel"}, r'Write "architectures": \["LlamaModel"\]'),
        ({"architectures": [], "model_type": "llama"}, "names no architecture"),
        ({"architectures": ["LlamaForCausalLM"], "model_type": "no-such-type"}, "cannot read this config.json"),
        (
            {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": "x"},
            "hidden_size = 'x', which is no size",
        ),
        (
            {"architectures": ["GPT2LMHeadModel"], "model_type": "gpt2", "n_embd": 10, "n_head": 3},
            "GPT2LMHeadModel cannot be built",
        ),
    ],
)
def test_a_config_that_cannot_be_used_says_why(tmp_path: Path, config: dict[str, Any], message: str) -> None:
    shutil.copytree(checkpoints.folder("llama"), tmp_path, dirs_exist_ok=True)
    with pytest.raises(ModelError, match=message):
        compare(Spec(str(_empty_checkpoint(tmp_path, config)), precisions=("bf16",), text="a text"))


def test_code_that_comes_with_a_checkpoint_is_refused(tmp_path: Path) -> None:
    config = {"architectures": ["OwnModel"], "model_type": "own", "auto_map": {"AutoModel": "own.OwnModel"}}
    with pytest.raises(UnsafeCheckpoint, match="OwnModel"):
        compare(Spec(str(_empty_checkpoint(tmp_path, config)), precisions=("bf16",), text="a text"))


def test_a_model_that_fails_in_its_own_code_is_named(tmp_path: Path) -> None:
    """Bros wants the boxes of its words too."""
    config = transformers.BrosConfig(
        vocab_size=300, hidden_size=32, num_hidden_layers=1, num_attention_heads=4, intermediate_size=48
    )
    tiny = checkpoints.Tiny("BrosModel", lambda: config, checkpoints.word_piece)
    checkpoints.write(checkpoints.build(tiny), tiny, tmp_path)
    with pytest.raises(UnsupportedModel, match=r"BrosModel cannot be run in FP32 here: ValueError.*bbox"):
        compare(Spec(str(tmp_path), precisions=("bf16",), text="a text of some words"))


def test_a_tokenizer_of_another_model_is_refused(tmp_path: Path) -> None:
    config = transformers.GPT2Config(vocab_size=50, n_embd=32, n_layer=1, n_head=4, n_positions=16)
    tiny = checkpoints.Tiny("GPT2LMHeadModel", lambda: config, checkpoints.byte_level)
    checkpoints.write(checkpoints.build(tiny), tiny, tmp_path)
    with pytest.raises(UnsupportedModel, match="beyond the model's vocabulary of 50"):
        compare(Spec(str(tmp_path), precisions=("bf16",), text="a text"))


def test_a_text_model_without_a_tokenizer_is_refused(tmp_path: Path) -> None:
    shutil.copytree(checkpoints.folder("gpt2"), tmp_path, dirs_exist_ok=True)
    for path in tmp_path.glob("tokenizer*"):
        path.unlink()
    with pytest.raises(UnsupportedModel, match="holds no tokenizer"):
        compare(Spec(str(tmp_path), precisions=("bf16",), text="a text"))
