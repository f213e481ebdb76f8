"""Make ``models/docstring-kinds``: a small classifier that says by a docstring alone which kind of object it documents.

    python -m training.docstring_kinds [--steps 500] [--minutes M] [--out models/docstring-kinds]
    python -m training.docstring_kinds --measure        # how often what ships is right in each precision

It begins with the encoder of ``models/docstring-vectors``, which saw the same docstrings and never the held-out ones.
Prints one JSON line per evaluation and writes tokenizer, weights (fp32 safetensors), the manifest of the held-out units
and ``training.json`` (recipe, figures). Nothing is chosen by what is held out. The run is seeded; thread count and CPU
still change the last bits.
"""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from transformers import DistilBertForSequenceClassification, PreTrainedTokenizerFast

from training import encoders
from training.docstrings import KINDS, Docstring, held_out, manifest, split_corpus
from training.encoders import Forward, arguments, batches, encoded, forward_of, in_precisions, print_row


def make_model(
    encoder: Path, tokenizer: PreTrainedTokenizerFast, dropout: float
) -> DistilBertForSequenceClassification:
    labels = dict(enumerate(KINDS))
    names = {kind: number for number, kind in labels.items()}
    config = encoders.configuration(tokenizer, dropout, id2label=labels, label2id=names)
    return DistilBertForSequenceClassification.from_pretrained(encoder, config=config)


def targets(some: Sequence[Docstring]) -> Tensor:
    return torch.tensor([KINDS.index(each.kind) for each in some])


def logits(forward: Forward, tokenizer: PreTrainedTokenizerFast, texts: Sequence[str]) -> Tensor:
    """[texts, kinds] in double precision."""
    order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
    found = torch.empty(len(texts), len(KINDS), dtype=torch.float64)
    for start in range(0, len(order), 64):
        rows = order[start : start + 64]
        found[rows] = forward(encoded(tokenizer, [texts[index] for index in rows])).logits.double()
    return found


def scores(found: Tensor, wanted: Tensor) -> dict[str, float]:
    """Top-1 accuracy over all, and on average over kinds."""
    right = (found.argmax(-1) == wanted).double()
    by_kind = [right[wanted == number].mean().item() for number in wanted.unique()]
    return {"accuracy": round(right.mean().item(), 4), "mean_recall": round(sum(by_kind) / len(by_kind), 4)}


def measure(folder: Path) -> None:
    """Print a row for each precision: right, other kinds than FP32, divergence from it."""
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    held = held_out(folder)
    texts, wanted = [each.text for each in held], targets(held)
    full: Tensor | None = None
    for name, forward in in_precisions(folder):
        found = logits(forward, tokenizer, texts)
        full = found if full is None else full
        changed = (found.argmax(-1) != full.argmax(-1)).double().mean().item()
        kl = functional.kl_div(found.log_softmax(-1), full.log_softmax(-1), log_target=True, reduction="batchmean")
        print_row(name, f"{scores(found, wanted)['accuracy']:.1%}", f"{changed:.1%}", f"{kl.item():.1e}")


def main() -> None:
    parser = arguments(__doc__, "models/docstring-kinds", steps=500, batch=64, rate=7e-4)
    parser.add_argument("--encoder", type=Path, default=Path("models/docstring-vectors"))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.measure:
        measure(options.out)
        return
    torch.manual_seed(0)
    training, held = split_corpus()
    tokenizer = PreTrainedTokenizerFast.from_pretrained(options.encoder)
    tokenizer.save_pretrained(options.out)
    model = make_model(options.encoder, tokenizer, options.dropout)
    counts = encoders.lengths(tokenizer, [each.text for each in training])
    indices = batches(counts, options.batch, np.random.default_rng(0))
    texts, wanted = [each.text for each in held], targets(held)

    def loss_of_next() -> Tensor:
        some = [training[index] for index in next(indices)]
        return functional.cross_entropy(model(**encoded(tokenizer, [each.text for each in some])).logits, targets(some))

    def evaluate() -> dict[str, float]:
        return scores(logits(forward_of(model), tokenizer, texts), wanted)

    record = encoders.train(model, loss_of_next, evaluate, options)
    model.save_pretrained(options.out)
    (options.out / "held_out.json").write_text(manifest(held), "utf-8")
    commonest = Counter(each.kind for each in training).most_common(1)[0][0]
    facts = {
        "held_out_accuracy": record["log"][-1]["accuracy"],
        "held_out_mean_recall": record["log"][-1]["mean_recall"],
        "majority_accuracy": round(sum(each.kind == commonest for each in held) / len(held), 4),
        "held_out_docstrings": Counter(each.kind for each in held),
        "training_docstrings": Counter(each.kind for each in training),
    }
    (options.out / "training.json").write_text(json.dumps(facts | record, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
