"""Make ``models/docstring-vectors``: a small encoder whose vectors of a docstring's two halves lie close together.

    python -m training.docstring_vectors [--steps 320] [--minutes M] [--out models/docstring-vectors]
    python -m training.docstring_vectors --measure      # what vectors of what ships find in each precision

Contrastive, with the other docstrings of a batch as negatives: the first sentence and what follows it, or the words of
a name and its docstring. Prints one JSON line per evaluation and writes tokenizer, weights (fp32 safetensors), what
sentence-transformers reads beside them, the manifest of the held-out units and ``training.json`` (recipe, figures).
Nothing is chosen by what is held out. The run is seeded; thread count and CPU still change the last bits.
"""

import json
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from transformers import DistilBertModel, PreTrainedTokenizerFast

from training import encoders
from training.docstrings import Docstring, held_out, manifest, split_corpus
from training.encoders import (
    LONGEST,
    Forward,
    arguments,
    batches,
    encoded,
    forward_of,
    in_precisions,
    print_row,
    train_tokenizer,
)

#: Standard deviation of linear weights at first. At the usual 0.02 layers this narrow hardly change what the embeddings
#: say: a bag of words is learned, and quantising the layers shows nothing.
SPREAD = 0.06

SCALE = 20.0  # of cosines in the loss: sentence-transformers' usual one

_LEAST = 20  # characters of what follows the first sentence

_WORDS = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+")

#: What sentence-transformers reads beside a model: file → content.
SENTENCE_TRANSFORMERS = {
    "modules.json": [
        {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
        {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
        {"idx": 2, "name": "2", "path": "2_Normalize", "type": "sentence_transformers.models.Normalize"},
    ],
    "1_Pooling/config.json": {
        "word_embedding_dimension": 128,
        "pooling_mode_cls_token": False,
        "pooling_mode_mean_tokens": True,
        "pooling_mode_max_tokens": False,
        "pooling_mode_mean_sqrt_len_tokens": False,
    },
    "sentence_bert_config.json": {"max_seq_length": LONGEST, "do_lower_case": False},
    "config_sentence_transformers.json": {"prompts": {}, "default_prompt_name": None, "similarity_fn_name": "cosine"},
}


def title(docstring: Docstring) -> str:
    """The words of its module's name and of its own: ``json decoder JSON Decoder raw decode``."""
    module = docstring.unit.partition(":")[2].removesuffix(".py").removesuffix("/__init__")
    return " ".join(_WORDS.findall(f"{module} {docstring.name}"))


def halves(text: str) -> tuple[str, str] | None:
    """The first sentence and what follows it; None where too little does."""
    first, *rest = re.split(r"(?<=[.:!?])\s+|\n\n", text, maxsplit=1)
    return (first, rest[0].strip()) if rest and len(first) >= _LEAST and len(rest[0].strip()) >= _LEAST else None


def pair(docstring: Docstring, generator: np.random.Generator) -> tuple[str, str]:
    found = halves(docstring.text)
    return found if found and generator.random() < 0.7 else (title(docstring), docstring.text)


def make_model(tokenizer: PreTrainedTokenizerFast, dropout: float) -> DistilBertModel:
    model = DistilBertModel(encoders.configuration(tokenizer, dropout))
    for module in model.modules():
        if isinstance(module, torch.nn.Linear):
            torch.nn.init.normal_(module.weight, std=SPREAD)
    return model


def vectors(forward: Forward, tokenizer: PreTrainedTokenizerFast, texts: Sequence[str]) -> Tensor:
    """Unit vectors [texts, features]: the mean over all tokens that are not padding."""
    inputs = encoded(tokenizer, texts)
    mask = inputs["attention_mask"][..., None]
    states = forward(inputs).last_hidden_state.float()
    return functional.normalize((states * mask).sum(1) / mask.sum(1), dim=-1)


def both_sides(
    forward: Forward, tokenizer: PreTrainedTokenizerFast, pairs: Sequence[tuple[str, str]]
) -> tuple[Tensor, Tensor]:
    """Vectors of the first halves and of the second ones, in one order of their own."""
    texts = zip(*sorted(pairs, key=lambda pair: len(pair[1])), strict=True)
    first, second = (
        torch.cat([vectors(forward, tokenizer, side[start : start + 64]) for start in range(0, len(side), 64)])
        for side in texts
    )
    return first, second


def retrieval(first: Tensor, second: Tensor) -> dict[str, float]:
    """How early each first half finds its own second half among all of them."""
    found = first @ second.T
    ranks = (found > found.diagonal()[:, None]).sum(1) + 1
    return {
        "recall_at_1": round((ranks == 1).float().mean().item(), 4),
        "recall_at_10": round((ranks <= 10).float().mean().item(), 4),
        "mrr": round((1 / ranks).mean().item(), 4),
    }


def questions(held: Sequence[Docstring]) -> list[tuple[str, str]]:
    """The halves of the held-out docstrings; of halves that occur twice one pair, so that each has one answer."""
    by_first = dict(both for each in held if (both := halves(each.text)))
    return [(first, rest) for rest, first in {rest: first for first, rest in by_first.items()}.items()]


def chance(count: int) -> dict[str, float]:
    """What random vectors would find among ``count``."""
    return {
        "recall_at_1": round(1 / count, 4),
        "recall_at_10": round(10 / count, 4),
        "mrr": round(sum(1 / rank for rank in range(1, count + 1)) / count, 4),
    }


def measure(folder: Path) -> None:
    """Print a row for each precision: what is found, other nearest neighbours than FP32, cosine with its vectors."""
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    asked = questions(held_out(folder))
    full: tuple[Tensor, Tensor] | None = None
    for name, forward in in_precisions(folder):
        first, second = both_sides(forward, tokenizer, asked)
        full = full or (first, second)
        changed = ((first @ second.T).argmax(1) != (full[0] @ full[1].T).argmax(1)).float().mean().item()
        cosine = (first * full[0]).sum(1).mean().item()
        found = (f"{value:.1%}" if key != "mrr" else f"{value:.3f}" for key, value in retrieval(first, second).items())
        print_row(name, *found, f"{changed:.1%}", f"{cosine:.6f}")


def main() -> None:
    options = arguments(__doc__, "models/docstring-vectors", steps=320, batch=128, rate=1.5e-3).parse_args()
    torch.set_num_threads(options.threads)
    if options.measure:
        measure(options.out)
        return
    torch.manual_seed(0)
    generator = np.random.default_rng(0)
    training, held = split_corpus()
    tokenizer = train_tokenizer([each.text for each in training])
    tokenizer.save_pretrained(options.out)
    model = make_model(tokenizer, options.dropout)
    asked = questions(held)
    counts = encoders.lengths(tokenizer, [each.text for each in training])
    indices = batches(counts, options.batch, generator)
    print(json.dumps({"training": len(training), "held_out": len(held), "asked": len(asked)}), flush=True)

    def loss_of_next() -> Tensor:
        pairs = [pair(training[index], generator) for index in next(indices)]
        first, second = (vectors(lambda inputs: model(**inputs), tokenizer, side) for side in zip(*pairs, strict=True))
        scores, own = SCALE * first @ second.T, torch.arange(len(pairs))
        return (functional.cross_entropy(scores, own) + functional.cross_entropy(scores.T, own)) / 2

    def evaluate() -> dict[str, float]:
        return retrieval(*both_sides(forward_of(model), tokenizer, asked))

    record = encoders.train(model, loss_of_next, evaluate, options)
    model.save_pretrained(options.out)
    for name, content in SENTENCE_TRANSFORMERS.items():
        (options.out / name).parent.mkdir(exist_ok=True)
        (options.out / name).write_text(json.dumps(content, indent=2) + "\n", "utf-8")
    (options.out / "held_out.json").write_text(manifest(held), "utf-8")
    facts = {
        "held_out": {key: record["log"][-1][key] for key in chance(1)},
        "chance": chance(len(asked)),
        "held_out_pairs": len(asked),
        "held_out_docstrings": len(held),
        "training_docstrings": len(training),
    }
    (options.out / "training.json").write_text(json.dumps(facts | record, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
