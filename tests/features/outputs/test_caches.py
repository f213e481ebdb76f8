"""Texts written with rounded caches: as transformers' ``generate`` writes with that cache, and what is refused."""

from typing import Any

import msgspec
import pytest
import torch
import transformers

from qfund import cli
from qfund.core.errors import UnknownName, UnsupportedModel
from qfund.engine import key_of
from qfund.features.outputs import link, tables
from qfund.features.outputs.measure.generate import generate
from qfund.features.outputs.request.generation import Generation, GenerationRequest, checked
from qfund.models.decoding.cache import rounding
from qfund.precisions.caches import parts
from tests.features.outputs.test_generate import PROMPT
from tests.tiny import checkpoints
from tests.ui.pages import FakeJobs, opened

FOLDER = str(checkpoints.folder("llama"))


@pytest.fixture(scope="module")
def found() -> Generation:
    return generate(GenerationRequest(FOLDER, "fp32", ("bf16",), (PROMPT,), 12, kv=("fp8", "fp32")))


def test_every_candidate_writes_with_each_cache(found: Generation) -> None:
    names = ("bf16", "fp32+kv:fp8", "bf16+kv:fp8", "fp32+kv:fp32", "bf16+kv:fp32")
    (example,) = found.examples
    assert tuple(example.candidates) == names == found.request.candidates
    assert example.candidates["fp32+kv:fp32"].written == example.reference
    assert len(tables.candidates(found)) == len(names)
    assert msgspec.json.decode(msgspec.json.encode(found), type=Generation) == found


def test_it_is_what_generate_writes_with_that_cache(found: Generation) -> None:
    model: Any = transformers.AutoModelForCausalLM.from_pretrained(FOLDER, dtype=torch.float32)
    ids = transformers.AutoTokenizer.from_pretrained(FOLDER)(PROMPT, return_tensors="pt").input_ids
    cache = rounding(model.config, "fp8", "fp8")
    theirs = model.generate(ids, past_key_values=cache, max_new_tokens=12, do_sample=False)[0, ids.shape[1] :]
    assert list(found.examples[0].candidates["fp32+kv:fp8"].written.tokens) == theirs.tolist()


@pytest.mark.parametrize(
    ("kv", "first", "window"), [("int4_kivi", 0, 32), ("q4_0:first4:window8", 4, 8)], ids=["kivi", "kept"]
)
def test_a_long_prompt_waits_as_if_it_were_written_token_by_token(kv: str, first: int, window: int) -> None:
    """Groups of 32 along the text, of a prompt that fills one and a part; first and recent tokens as computed."""
    prompt = checkpoints.TEXT[:180]
    asked = GenerationRequest("pydoc-llama", "fp32", ("bf16",), (prompt,), 6, kv=(kv,))
    (example,) = generate(asked).examples
    tokens = example.candidates[f"fp32+kv:{kv}"].written.tokens
    folder = "models/pydoc-llama"
    model: Any = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    ids = transformers.AutoTokenizer.from_pretrained(folder)(prompt, return_tensors="pt").input_ids
    assert ids.shape[1] > 36 and ids.shape[1] == example.prompt_tokens
    cache = rounding(model.config, *parts(kv), first, window)
    given, written = list(ids[0]), list[int]()
    with torch.inference_mode():
        for token in given:
            logits = model(input_ids=token.view(1, 1), past_key_values=cache).logits[0, -1]
        for _ in range(6):
            written.append(int(logits.argmax()))
            logits = model(input_ids=torch.tensor([[written[-1]]]), past_key_values=cache).logits[0, -1]
    assert list(tokens) == written


def test_what_cannot_be_rounded_is_refused_by_name() -> None:
    with pytest.raises(UnknownName, match="KV precision 'int5'"):
        checked(GenerationRequest(FOLDER, kv=("int5",)))
    with pytest.raises(UnsupportedModel, match="groups of 64"):
        generate(GenerationRequest(FOLDER, "fp32", ("bf16",), (PROMPT,), 4, kv=("int8",)))
    with pytest.raises(UnsupportedModel, match="sequence-to-sequence model"):
        generate(GenerationRequest(str(checkpoints.folder("t5")), "fp32", ("bf16",), (PROMPT,), 4, kv=("bf16",)))


def test_link_key_and_command(capsys: pytest.CaptureFixture[str]) -> None:
    asked = link.Asked(kv=("q8_0", "q8_0/q4_0"), look="int4+kv:q8_0")
    assert link.from_query(link.to_query(asked)) == (asked, [])
    assert "kv" not in link.to_query(link.Asked())
    plain = checked(GenerationRequest(FOLDER))
    assert key_of(plain) == key_of(checked(GenerationRequest(FOLDER, kv=()))) != key_of(asked.request)
    rest = ["--prompt", PROMPT, "--max-new-tokens", "4", "--quiet", "--no-store"]
    with pytest.raises(SystemExit, match="0"):
        cli.main(["generate", FOLDER, "--precision", "bf16", "--kv", "fp16", *rest])
    assert "BF16, KV fp16" in capsys.readouterr().out


@pytest.mark.usefixtures("page_server")
def test_page(jobs: FakeJobs) -> None:
    at = opened("pages/outputs.py", {"kv": ["q8_0"]})
    assert at.multiselect(key="outputs_kv").value == ["q8_0"]
    at.button(key="outputs_go").click().run()
    assert jobs.submitted[-1].kv == ("q8_0",) and not at.exception
