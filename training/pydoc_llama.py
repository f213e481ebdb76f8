"""Make ``models/pydoc-llama``: a small Llama trained on the documentation that every Python carries.

    python -m training.pydoc_llama [--steps 3000] [--minutes M] [--out models/pydoc-llama]

Prints one JSON line per evaluation and writes tokenizer, weights (fp32 safetensors), the manifest of the held-out units
and ``training.json`` (recipe, figures). The run is seeded; thread count and CPU still change the last bits.
"""

import json
import math
import os
import time

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch.nn import functional
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from qfund.inputs.pydoc_text import digest, join, name_order, python_version, read_unit, unit_names
from training.descent import Descent, parser

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # on shared cores: four times the tokens per second

CONTEXT = 256
VOCABULARY = 2048
END = "<|endoftext|>"
HELD_OUT_SHARE = 0.05
LARGEST_HELD_OUT = 0.03  # of its group: a very large unit stays in training


def split_corpus() -> tuple[list[str], dict[str, str]]:
    """Training texts, and the held-out units by name. No held-out paragraph occurs in a training text."""
    units = {name: text for name in unit_names() if (text := read_unit(name))}
    held: dict[str, str] = {}
    for group in ("module", "builtin", "topic"):
        members = {name: text for name, text in units.items() if name.startswith(f"{group}:")}
        total, taken = sum(map(len, members.values())), 0
        for name in sorted(members, key=name_order):
            if taken >= HELD_OUT_SHARE * total:
                break
            if len(members[name]) <= LARGEST_HELD_OUT * total:
                held[name] = members[name]
                taken += len(members[name])
    held = {name: held[name] for name in sorted(held, key=name_order)}
    seen = {paragraph.strip() for text in held.values() for paragraph in text.split("\n\n")}
    training = []
    for name, text in units.items():
        if name not in held:
            kept = [paragraph for paragraph in text.split("\n\n") if paragraph.strip() not in seen]
            if kept:
                training.append("\n\n".join(kept))
    return training, held


def train_tokenizer(texts: list[str]) -> PreTrainedTokenizerFast:
    """Byte-level BPE with ``VOCABULARY`` tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=VOCABULARY,
            special_tokens=[END],
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        ),
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=END,
        eos_token=END,
        model_max_length=CONTEXT,
        clean_up_tokenization_spaces=False,
    )


def encode(tokenizer: PreTrainedTokenizerFast, texts: list[str]) -> torch.Tensor:
    """Token ids of the texts, each preceded by the end token, as one int64 tensor [tokens]."""
    end = tokenizer.eos_token_id
    return torch.tensor(np.concatenate([[end, *tokenizer(text)["input_ids"]] for text in texts]), dtype=torch.int64)


def make_model(dropout: float) -> LlamaForCausalLM:
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=VOCABULARY,
            hidden_size=256,
            intermediate_size=512,
            num_hidden_layers=6,
            num_attention_heads=8,
            num_key_value_heads=4,
            max_position_embeddings=CONTEXT,
            tie_word_embeddings=True,
            bos_token_id=0,
            eos_token_id=0,
            rms_norm_eps=1e-5,
        )
    )

    def drop(module: torch.nn.Module, _: object, output: torch.Tensor) -> torch.Tensor:
        return functional.dropout(output, dropout, module.training)

    for layer in model.model.layers:  # LlamaConfig has no residual dropout
        layer.self_attn.o_proj.register_forward_hook(drop)
        layer.mlp.down_proj.register_forward_hook(drop)
    return model


@torch.no_grad()
def held_out_loss(model: LlamaForCausalLM, tokens: torch.Tensor) -> float:
    """Mean NLL (nats per token) over consecutive chunks of ``CONTEXT`` tokens, every position but a chunk's last."""
    model.eval()
    chunks = tokens[: len(tokens) // CONTEXT * CONTEXT].view(-1, CONTEXT)
    total = 0.0
    for batch in chunks.split(16):
        logits = model(batch).logits[:, :-1]
        total += functional.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten(), reduction="sum").item()
    model.train()
    return total / (chunks.shape[0] * (CONTEXT - 1))


def main() -> None:
    options = parser(
        __doc__, "models/pydoc-llama", steps=3000, evaluate_every=300, batch=8, rate=2e-3, dropout=0.1
    ).parse_args()

    torch.manual_seed(0)
    generator = np.random.default_rng(0)
    texts, held = split_corpus()
    tokenizer = train_tokenizer(texts)
    held_text = join(held.values())
    training = encode(tokenizer, texts)
    evaluation = torch.tensor(tokenizer(held_text)["input_ids"], dtype=torch.int64)
    options.out.mkdir(parents=True, exist_ok=True)
    tokenizer.save_pretrained(options.out)
    manifest = {
        "units": list(held),
        "python": python_version(),
        "sha256": digest(held_text),
    }
    (options.out / "held_out.json").write_text(json.dumps(manifest, indent=1) + "\n", "utf-8")
    print(json.dumps({"training_tokens": len(training), "held_out_tokens": len(evaluation)}), flush=True)

    model = make_model(options.dropout)
    descent = Descent(model, options.rate, least=0.05, decay=0.1, beta=0.95)
    started, best, log = time.monotonic(), math.inf, []
    model.train()
    while True:
        share = max(descent.steps / options.steps, (time.monotonic() - started) / 60 / options.minutes)
        if (descent.steps and descent.steps % options.evaluate_every == 0) or share >= 1:
            loss = held_out_loss(model, evaluation)
            log.append({"step": descent.steps, "perplexity": round(math.exp(loss), 3)})
            log[-1]["cpu_minutes"] = round(time.process_time() / 60, 1)
            print(json.dumps(log[-1]), flush=True)
            if loss < best:
                best = loss
                model.save_pretrained(options.out)
        if share >= 1:
            break
        starts = torch.from_numpy(generator.integers(0, len(training) - CONTEXT - 1, options.batch))
        window = training[starts[:, None] + torch.arange(CONTEXT + 1)]
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(window[:, :-1]).logits
        loss_now = functional.cross_entropy(logits.float().flatten(0, 1), window[:, 1:].flatten())
        descent.step(loss_now, share)

    record = {
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "training_tokens": len(training),
        "held_out_tokens": len(evaluation),
        "held_out_perplexity": round(math.exp(best), 3),
        "steps": descent.steps,
        "batch": options.batch,
        "context": CONTEXT,
        "peak_rate": options.rate,
        "dropout": options.dropout,
        "torch": torch.__version__,
        "log": log,
    }
    (options.out / "training.json").write_text(json.dumps(record, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
