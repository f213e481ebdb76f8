"""Chat templates, held to transformers' own rendering; and those that raise, loop, or are not there."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from qfund.core.errors import InvalidInput, QfundError, UnsupportedModel
from qfund.features.compare.measure.compare import compare
from qfund.features.compare.request.spec import Spec
from qfund.features.outputs.measure.generate import generate
from qfund.features.outputs.request.generation import GenerationRequest
from qfund.inputs import conversations
from qfund.inputs.texts import ANSWERS, WRITTEN
from qfund.models.inputs import chat
from tests.tiny import checkpoints

TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'system' and not loop.first %}"
    "{{ raise_exception('system comes first') }}{% endif %}[{{ m.role }}] {{ m.content }}{{ eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}[assistant] {% endif %}"
)
RANGE = "{% for a in range(99999) %}"
LOOPS = 3 * RANGE + 3 * "{% endfor %}"
TALK = [
    {"role": "user", "content": "the fox"},
    {"role": "assistant", "content": "a dog"},
    {"role": "user", "content": "and the dog"},
    {"role": "assistant", "content": "quick"},
]


def instruct(folder: Path, template: str | None = TEMPLATE) -> Path:
    checkpoints.make("llama", folder)
    if template is not None:
        (folder / "chat_template.jinja").write_text(template)
    return folder


def test_answers_are_those_of_plain_transformers(tmp_path: Path) -> None:
    folder = instruct(tmp_path / "model")
    prompts = ("the quick fox", conversations.written(TALK[:3]), conversations.written(TALK))
    request = GenerationRequest(str(folder), precisions=("bf16",), prompts=prompts, max_new_tokens=5, chat=True)
    found = generate(request)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.LlamaForCausalLM.from_pretrained(folder).eval()
    asked = ([{"role": "user", "content": prompts[0]}], TALK[:3], TALK[:3])
    for example, messages in zip(found.examples, asked, strict=True):
        given: Any = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt")
        ids = given["input_ids"]
        with torch.inference_mode():
            written = model.generate(ids, max_new_tokens=5, do_sample=False)[0, ids.shape[1] :]
        assert example.prompt_tokens == ids.shape[1] and list(example.reference.tokens) == written.tolist()
    assert "chat template" in " ".join(found.notes)


def test_where_answers_stand(tmp_path: Path) -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(instruct(tmp_path / "model"))
    text, places = chat.answers(tokenizer, TALK, "Conversation 1")
    assert [text[start:end] for start, end in places] == [f"a dog{tokenizer.eos_token}", f"quick{tokenizer.eos_token}"]
    with pytest.raises(InvalidInput, match="Conversation 1 holds no answer to score"):
        chat.answers(tokenizer, TALK[:1], "Conversation 1")


@pytest.mark.parametrize(
    ("template", "prompt", "said"),
    [
        (None, "a", "no chat template"),
        ("{{ raise_exception('no such luck') }}", "a", "refuses the prompt .*no such luck"),
        ("{% for", "a", "refuses the prompt"),
        ("{{ messages.__class__.__mro__ }}", "a", "refuses the prompt|makes no token"),
        (LOOPS, "a", "did not end within"),
        ("{{ 'x' * 10**10 }}", "a", "refuses the prompt .MemoryError"),
        ("{{ 'x'.center(10**10) }}", "a", "refuses the prompt .MemoryError"),
        ("{{ 9 ** (9 ** 9) }}", "a", "refuses the prompt .*power of too many digits"),
        (TEMPLATE, json.dumps([TALK[0], {"role": "system", "content": "x"}]), "system comes first"),
        (TEMPLATE, json.dumps([TALK[1]]), "asks nothing"),
        (TEMPLATE, json.dumps([{"role": "user"}]), "has no role and content"),
        ("", "a", "no chat template|makes no token"),
    ],
)
def test_what_cannot_be_rendered_is_told(
    template: str | None, prompt: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chat, "SECONDS", 0.5)
    folder = instruct(tmp_path / "model", template)
    with pytest.raises(QfundError, match=said) as error:
        generate(GenerationRequest(str(folder), precisions=("bf16",), prompts=(prompt,), max_new_tokens=2, chat=True))
    assert isinstance(error.value, UnsupportedModel | InvalidInput) and error.value.remedy


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", "[[]]", '[{"role": 1}]', "[" * 10_000, '["a"]', '[[{"role": "user"}]]']
)
def test_files_that_hold_no_conversation(text: str) -> None:
    with pytest.raises(InvalidInput):
        conversations.of_file(text)


def test_templates_lie_where_tools_put_them(tmp_path: Path) -> None:
    """In a file of the processor's; several by name; and one of a multimodal model, which takes messages in parts."""
    asked: Any = [{"role": "user", "content": "the fox"}]
    parts = (
        "{% for m in messages %}{% for part in m.content %}{% if part.type == 'text' %}<{{ part.text }}>{% endif %}"
        "{% endfor %}{% endfor %}"
    )
    kept = {
        "file": ({"chat_template": TEMPLATE}, None, "[user] the fox"),
        "names": (
            None,
            [{"name": "tool", "template": "x"}, {"name": "default", "template": TEMPLATE}],
            "[user] the fox",
        ),
        "parts": ({"chat_template": parts}, None, "<the fox>"),
    }
    for name, (file, named, said) in kept.items():
        folder = instruct(tmp_path / name, None)
        if file:
            (folder / "chat_template.json").write_text(json.dumps(file))
        if named:
            path = folder / "tokenizer_config.json"
            path.write_text(json.dumps(json.loads(path.read_text()) | {"chat_template": named}))
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        assert said in chat.rendered(tokenizer, asked, "The prompt", True)
    tokenizer.chat_template = {"tool": "x", "rag": "y"}
    with pytest.raises(UnsupportedModel, match="for tool, rag, and none by default"):
        chat.rendered(tokenizer, asked, "The prompt", True)


def test_files_of_conversations() -> None:
    whole = (tuple(TALK), tuple(TALK[:1]))
    held = [{"messages": TALK}, {"messages": TALK[:1]}]
    lines = "\n".join(map(json.dumps, held))
    in_parts = [[{**TALK[0], "content": [{"type": "text", "text": "the "}, {"type": "text", "text": "fox"}]}]]
    assert conversations.of_file(json.dumps(held)) == conversations.of_file(lines) == whole
    assert conversations.of_file(json.dumps(held[0])) == whole[:1]
    assert conversations.of_file(json.dumps(in_parts)) == (tuple(TALK[:1]),)
    with pytest.raises(InvalidInput, match="content that is text"):
        conversations.of_file(json.dumps([[{**TALK[0], "content": [{"type": "image"}]}]]))
    assert conversations.of_file(json.dumps([TALK, TALK[:1]])) == (tuple(TALK), tuple(TALK[:1]))
    assert conversations.of_file(json.dumps(TALK)) == (tuple(TALK),)


def test_only_answers_are_scored(tmp_path: Path) -> None:
    """Perplexity in float64, of the answers' tokens in one forward of each whole conversation."""
    folder = instruct(tmp_path / "model")
    talks = [TALK, TALK[:2], [{"role": "system", "content": "fox"}, *TALK[:2]]]
    spec = Spec(str(folder), precisions=("fp32", "bf16"), text=json.dumps(talks), scoring=ANSWERS)
    found = compare(spec)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.LlamaForCausalLM.from_pretrained(folder).eval()
    losses: list[float] = []
    for messages in talks:
        text: Any = tokenizer.apply_chat_template(messages, tokenize=False)
        encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        with torch.inference_mode():
            scores = model(torch.tensor([encoded["input_ids"]])).logits[0].double().log_softmax(-1)
        for message in messages:
            if message["role"] == "assistant":
                begin = text.index(f"[assistant] {message['content']}") + len("[assistant] ")
                end = begin + len(message["content"]) + len(tokenizer.eos_token)
                for place, (_, last) in enumerate(encoded["offset_mapping"]):
                    if begin < last <= end:
                        losses.append(-float(scores[place - 1, encoded["input_ids"][place]]))
    assert found.reference.fidelity["perplexity"].value == pytest.approx(math.exp(sum(losses) / len(losses)), rel=1e-5)
    assert found.reference.fidelity["perplexity"].n == len(losses) and found.input.chunks == 4
    assert found.results[0].fidelity["kl_mean"].value == 0
    assert f"{len(losses)} tokens of answers are scored" in " ".join(found.input.notes)
    for text, said in (("x", "no JSON"), (json.dumps([TALK[:1]]), "no answer to score")):
        with pytest.raises(InvalidInput, match=said):
            compare(replace(spec, text=text))
    with pytest.raises(InvalidInput, match="Only a causal"):
        compare(replace(spec, model=str(checkpoints.folder("bert-masked"))))


def test_the_reference_writes_the_answers_that_all_are_scored_on(tmp_path: Path) -> None:
    """Plain transformers writes the same tokens, and finds them as likely in float64."""
    folder = instruct(tmp_path / "model")
    talks = [TALK, TALK[:1], [{"role": "user", "content": "fox " * 900}]]
    found = compare(Spec(str(folder), precisions=("bf16", "fp32"), text=json.dumps(talks), scoring=WRITTEN, context=60))
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.LlamaForCausalLM.from_pretrained(folder).eval()
    losses: list[float] = []
    for messages in (TALK[:3], TALK[:1]):
        given: Any = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt")
        ids = given["input_ids"]
        with torch.inference_mode():
            row = model.generate(ids, max_new_tokens=60 - ids.shape[1], do_sample=False)
            scores = model(row).logits[0].double().log_softmax(-1)
        losses += [-float(scores[place - 1, row[0, place]]) for place in range(ids.shape[1], row.shape[1])]
    perplexity = found.reference.fidelity["perplexity"]
    assert perplexity.n == len(losses) and found.input.chunks == 2
    assert perplexity.value == pytest.approx(math.exp(sum(losses) / len(losses)), rel=1e-5)
    (same,) = (result for result in found.results if result.precision == "fp32")
    assert same.fidelity["top1_agreement"].value == 1 and same.fidelity["kl_mean"].value == 0
    said = " ".join(found.input.notes)
    assert "The reference wrote the answers first" in said and "1 conversation left no room" in said
    with pytest.raises(InvalidInput, match="answers alone"):
        compare(Spec(str(folder), text=json.dumps([TALK[1:2]]), scoring=WRITTEN))
