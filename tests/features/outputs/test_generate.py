"""Texts written token by token, held to transformers' ``generate`` and to plain forwards."""

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
import transformers

from qfund.checkpoints import catalog
from qfund.core.errors import InvalidInput, UnsupportedModel
from qfund.core.progress import Streaming
from qfund.engine import key_of
from qfund.features.outputs.measure.generate import _Prompt, _Text, generate
from qfund.features.outputs.request import generation
from qfund.features.outputs.request.generation import NOT_FINITE, Generation, GenerationRequest
from qfund.inputs import prompts
from qfund.models.cache import ModelCache
from tests.engine.shipping import ships
from tests.tiny import checkpoints, gguf_files

PROMPT = "The quick brown fox"
ENCODER_DECODERS = ("t5", "bart")


def plain(folder: Path, dtype: str = "float32") -> Any:
    kind = getattr(transformers, transformers.AutoConfig.from_pretrained(folder).architectures[0])
    return kind.from_pretrained(folder, dtype=getattr(torch, dtype)).eval()


def theirs(folder: Path, dtype: str, prompt: str, count: int) -> list[int]:
    """What transformers' own ``generate`` writes."""
    model, tokenizer = plain(folder, dtype), transformers.AutoTokenizer.from_pretrained(folder)
    ids = tokenizer(prompt, return_tensors="pt")["input_ids"]
    with torch.inference_mode():
        found: list[int] = model.generate(
            ids, attention_mask=torch.ones_like(ids), do_sample=False, num_beams=1, max_new_tokens=count
        )[0].tolist()
    return found[1:] if model.config.is_encoder_decoder else found[ids.shape[1] :]


def ask(folder: Path | str, *precisions: str, **changes: Any) -> Generation:
    wanted: dict[str, Any] = {"prompts": (PROMPT,), "max_new_tokens": 12} | changes
    return generate(GenerationRequest(str(folder), precisions=precisions or ("fp32", "bf16"), **wanted))


@pytest.mark.parametrize(
    "name", ["llama", "gpt2", "t5", "bart", "mistral", "gemma2", "bloom", "opt", "mamba", "bert-decoder"]
)
def test_it_is_transformers_generate_token_for_token(name: str) -> None:
    folder = checkpoints.folder(name)
    [example] = ask(folder).examples
    assert list(example.reference.tokens) == theirs(folder, "float32", PROMPT, 12)
    assert list(example.candidates["bf16"].written.tokens) == theirs(folder, "bfloat16", PROMPT, 12)
    own = example.candidates["fp32"]
    assert (own.divergence, own.written, own.noise) == (None, example.reference, 0.0), "compared with itself"


def test_what_the_checkpoint_asks_of_generation_is_done(tmp_path: Path) -> None:
    settings = {
        "llama": {
            "repetition_penalty": 1.3,
            "no_repeat_ngram_size": 2,
            "suppress_tokens": [40, 41],
            "min_new_tokens": 5,
        },
        "bart": {"begin_suppress_tokens": [7], "min_length": 6, "forced_bos_token_id": 0, "forced_eos_token_id": 2},
    }
    for name, wanted in settings.items():
        folder = shutil.copytree(checkpoints.folder(name), tmp_path / name)
        config = transformers.GenerationConfig.from_pretrained(folder)
        config.update(**wanted)
        config.save_pretrained(folder)
        [example] = ask(folder).examples
        assert list(example.reference.tokens) == theirs(folder, "float32", PROMPT, 12), name
        [before] = ask(checkpoints.folder(name)).examples
        assert example.reference.tokens != before.reference.tokens, "or nothing was asked"


def test_beams_are_said_not_to_be_used(tmp_path: Path) -> None:
    folder = shutil.copytree(checkpoints.folder("bart"), tmp_path / "beams")
    config = transformers.GenerationConfig.from_pretrained(folder)
    config.update(num_beams=4)
    config.save_pretrained(folder)
    assert any("4 beams" in note for note in ask(folder).notes)


@pytest.mark.parametrize("name", ["llama", "gpt2", "bart"])
def test_pieces_make_up_the_text(name: str) -> None:
    folder = checkpoints.folder(name)
    tokenizer: Any = transformers.AutoTokenizer.from_pretrained(folder)
    [example] = ask(folder, prompts=("Naïve café — 日本",), max_new_tokens=24).examples
    written = list(example.reference.tokens)
    ids = [] if name in ENCODER_DECODERS else tokenizer("Naïve café — 日本")["input_ids"]
    whole = tokenizer.decode([*ids, *written])[len(tokenizer.decode(ids)) :]
    text = "".join(example.reference.pieces)
    # A character that the last tokens begin is not there yet.
    assert whole.startswith(text) and not whole[len(text) :].strip("\ufffd") and text


def test_a_divergence_is_that_of_plain_forwards() -> None:
    folder = checkpoints.folder("llama-untied")
    found = ask(folder, "bf16", "int2", prompts=tuple(checkpoints.TEXT.split(". ")[:4]))
    model = plain(folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    parted = 0
    for example in found.examples:
        candidate = example.candidates["int2"]
        row = candidate.divergence
        assert candidate.written.tokens[: candidate.same] == example.reference.tokens[: candidate.same]
        if row is None or row.gap is None or row.moved is None or row.top_gap is None:
            continue
        parted += 1
        mine, other = example.reference.tokens[row.step], candidate.written.tokens[row.step]
        assert mine != other
        read = [*tokenizer(example.prompt)["input_ids"], *example.reference.tokens[: row.step]]
        with torch.inference_mode():
            logits = model(input_ids=torch.tensor([read])).logits[0, -1].double()
        assert row.gap == pytest.approx(float(logits[mine] - logits[other]), abs=1e-4)
        top = logits.topk(2).values
        assert row.top_gap == pytest.approx(float(top[0] - top[1]), abs=1e-4)
        assert 0 <= row.gap <= row.moved
        assert row.reference[row.chosen[0]] == pytest.approx(float(logits.softmax(-1)[mine]), rel=1e-3)
        assert row.chosen[1] is not None and row.reference[row.chosen[0]] == max(row.reference)
        assert row.candidate[row.chosen[1]] == max(row.candidate)
        assert candidate.written.probabilities[row.step] == row.candidate[row.chosen[1]]
    assert parted, "int2 must part from fp32 somewhere"


def test_noise_is_the_spread_of_logit_differences() -> None:
    """At the first step, against two plain forwards."""
    folder = checkpoints.folder("llama")
    ids = transformers.AutoTokenizer.from_pretrained(folder)(PROMPT, return_tensors="pt")["input_ids"]
    with torch.inference_mode():
        one, other = (plain(folder, dtype)(input_ids=ids).logits[0, -1].double() for dtype in ("float32", "bfloat16"))
    [example] = ask(folder, "bf16", max_new_tokens=1).examples
    noise = float((other - one).std(correction=0)) * 2**0.5
    assert example.candidates["bf16"].noise == pytest.approx(noise, rel=1e-3)


def test_a_prompt_that_leaves_less_room_is_shortened_and_that_is_said() -> None:
    folder = checkpoints.folder("llama")  # reads 64 tokens
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    prompt = tokenizer.decode(tokenizer(checkpoints.TEXT)["input_ids"][1:59])
    taken = len(tokenizer(prompt)["input_ids"])
    found = ask(folder, "bf16", prompts=(prompt,))
    assert len(found.examples[0].reference.tokens) <= found.examples[0].limit == 64 - taken
    assert any(f"leaves room for {64 - taken} new token" in note for note in found.notes)


def test_a_prompt_longer_than_the_context_is_refused_by_its_number() -> None:
    folder = checkpoints.folder("llama")
    with pytest.raises(InvalidInput, match=r"Prompt 2 of 2 is .* tokens long; this model reads at most 64"):
        ask(folder, prompts=(PROMPT, checkpoints.TEXT * 3))
    with pytest.raises(InvalidInput, match=r"The prompt is .* tokens long"):
        ask(checkpoints.folder("bart"), prompts=(checkpoints.TEXT * 3,))


@pytest.mark.parametrize("name", ["bert-encoder", "bert-classifier", "bert-masked", "vit-classifier", "blip"])
def test_a_model_without_a_head_that_writes_is_told_so(name: str) -> None:
    with pytest.raises(UnsupportedModel, match="no head that writes text") as told:
        ask(checkpoints.folder(name))
    assert "classes or embeddings" in told.value.remedy


def test_a_stop_text_ends_it() -> None:
    whole = ask(checkpoints.folder("llama")).examples[0].reference
    stop = whole.pieces[3].strip() or whole.pieces[3]
    found = ask(checkpoints.folder("llama"), stop=(stop,)).examples[0].reference
    assert found.ended == "stop" and stop in found.text
    assert whole.tokens[: len(found.tokens)] == found.tokens and stop not in "".join(found.pieces[:-1])


def test_an_end_token_ends_it(tmp_path: Path) -> None:
    whole = ask(checkpoints.folder("llama")).examples[0].reference
    folder = shutil.copytree(checkpoints.folder("llama"), tmp_path / "ends")
    config = transformers.GenerationConfig.from_pretrained(folder)
    config.eos_token_id = [whole.tokens[4], 0]
    config.save_pretrained(folder)
    found = ask(folder).examples[0].reference
    where = whole.tokens.index(whole.tokens[4])
    assert (found.tokens, found.ended, found.pieces[-1]) == (whole.tokens[: where + 1], "end", "")


def test_drawn_tokens_are_the_same_again_and_those_of_the_softmax() -> None:
    folder = checkpoints.folder("llama")
    warm = {"temperature": 1.0, "seed": 5}
    first, again = ask(folder, **warm), ask(folder, **warm)
    assert first.examples == again.examples
    assert first.examples[0].candidates["fp32"].divergence is None
    assert ask(folder, temperature=1.0, seed=6).examples[0].reference != first.examples[0].reference
    request = GenerationRequest("x", temperature=0.5, prompts=(PROMPT,))
    scores = torch.tensor([0.0, 0.5, 1.0])
    counts = torch.zeros(3)
    for number in range(3000):
        text = _Text(request, _Prompt(number, PROMPT, [1], None, 1, None), None)
        counts[text._drawn(scores, 0).argmax()] += 1
    wanted = (scores / 0.5).softmax(-1)
    assert (counts / 3000 - wanted).abs().max() < 4 * (0.25 / 3000) ** 0.5


@pytest.fixture(scope="module")
def overflowing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its last layer's weights are infinite in fp16."""
    model = checkpoints.build(checkpoints.CHECKPOINTS["llama-untied"])
    with torch.no_grad():
        model.lm_head.weight.mul_(1e6)
    folder = tmp_path_factory.mktemp("overflowing")
    checkpoints.write(model, checkpoints.CHECKPOINTS["llama-untied"], folder)
    return folder


def test_logits_that_are_not_finite_end_a_text_and_are_told(overflowing: Path) -> None:
    found = ask(overflowing, "bf16", "fp16")
    candidate = found.examples[0].candidates["fp16"]
    assert candidate.written.ended == "not finite" and candidate.written.tokens == ()
    assert candidate.divergence is not None and candidate.divergence.kind == NOT_FINITE
    assert msgspec.json.decode(generation.to_json(found), type=Generation) == found
    worse = generate(replace(found.request, reference="fp16", precisions=("bf16",)))
    assert worse.counted == () and generation.statistics(worse, "bf16") is None


class Listener:
    def __init__(self) -> None:
        self.shares: list[float] = []
        self.texts: list[dict[str, str]] = []

    def __call__(self, phase: str, share: float) -> None:
        self.shares.append(share)

    def show(self, texts: Mapping[str, str]) -> None:
        self.texts.append(dict(texts))


def test_tokens_stream_in_as_they_are_made() -> None:
    listener = Listener()
    assert isinstance(listener, Streaming)
    request = GenerationRequest(str(checkpoints.folder("llama")), precisions=("bf16",), prompts=(PROMPT,))
    [example] = generate(replace(request, max_new_tokens=8), listener).examples
    texts = [shown["fp32"] for shown in listener.texts if "bf16" not in shown]
    assert texts == ["".join(example.reference.pieces[:count]) for count in range(len(example.reference.pieces) + 1)]
    assert listener.texts[-1] == {"fp32": example.reference.text, "bf16": example.candidates["bf16"].written.text}
    assert listener.shares == sorted(listener.shares) and listener.shares[-1] <= 1


def test_a_budget_for_one_candidate_at_a_time_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = checkpoints.folder("llama")
    whole = ask(folder, "bf16", "int8", "int4")
    bytes_ = plain(folder).get_memory_footprint()
    monkeypatch.setattr("qfund.models.cache._cache", ModelCache(int(bytes_ * 2.1)))
    assert ask(folder, "bf16", "int8", "int4").examples == whole.examples


def test_what_ships_is_of_the_weights_that_are_there() -> None:
    found: Generation = ships(generation.EXAMPLE)
    assert len(found.examples) >= 50
    if prompts.of(catalog.locate("pydoc-llama", None)) != tuple(example.prompt for example in found.examples):
        pytest.skip("this Python carries other documentation than the one that wrote what ships")
    few = found.examples[:2]
    fresh = generate(
        replace(generation.EXAMPLE, prompts=tuple(example.prompt for example in few), precisions=("bf16",))
    )
    for ours, shown in zip(fresh.examples, few, strict=True):
        # Another processor rounds otherwise: a tie may fall the other way, what is decided may not.
        gap = next(
            (i for i, (a, b) in enumerate(zip(ours.reference.tokens, shown.reference.tokens, strict=False)) if a != b),
            None,
        )
        assert gap is None or ours.reference.probabilities[gap] < 0.6
        assert ours.reference.probabilities[0] == pytest.approx(shown.reference.probabilities[0], rel=1e-2)


def test_quantised_files_write_beside_precisions(tmp_path: Path) -> None:
    """As transformers writes with the decoded weights in the model's place."""
    folder, path = checkpoints.folder("llama"), tmp_path / "tiny-Q4_0.gguf"
    decoded = gguf_files.write(folder, path, kind="Q4_0")
    found = ask(folder, "bf16", files=(str(path),))
    assert found.request.candidates == ("bf16", "file:tiny-Q4_0.gguf")
    model, tokenizer = plain(folder), transformers.AutoTokenizer.from_pretrained(folder)
    model.load_state_dict({name: torch.from_numpy(values) for name, values in decoded.items()}, strict=False)
    ids = tokenizer(PROMPT, return_tensors="pt")["input_ids"]
    with torch.inference_mode():
        expected = model.generate(ids, do_sample=False, max_new_tokens=12)[0, ids.shape[1] :].tolist()
    [example] = found.examples
    assert list(example.candidates["file:tiny-Q4_0.gguf"].written.tokens) == expected
    # A file may be the reference; alone with it, it is the only one.
    turned = ask(folder, "fp32", reference=str(path), files=(str(path),))
    assert list(turned.examples[0].reference.tokens) == expected and turned.request.candidates == ("fp32",)
    with pytest.raises(UnsupportedModel, match="another architecture"):
        ask(checkpoints.folder("qwen3"), "bf16", files=(str(path),))
    key = key_of(GenerationRequest("dummy"), lambda request: "same")
    assert key == key_of(GenerationRequest("dummy", files=()), lambda request: "same")
