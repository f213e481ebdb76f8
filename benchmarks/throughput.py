"""How fast the shipped model is compared: ``python -m benchmarks.throughput``.

In turns, on the same tokens (16,384): the plain transformers FP32 forward, and whole comparisons of FP32 with one
candidate (both models' forwards, every statistic, drift along the blocks). *Candidate* is the rate of what the
candidate adds, statistics included, as a ratio to the plain forward; *both* counts the tokens of both models over the
whole time.
With ``--parts``, in turns: what a comparison may do without (``qfund compare --without``), in processor seconds of the
whole comparison, and in no more than its metrics.
With ``--shares``: what the statistics of a reference and of each candidate cost, in processor time of the FP32 forward
that gave the logits; of the shipped model and of random ones in the shapes of models that people run, where the blocks
share one block's weights (the same products in less memory).
llama-perplexity, which runs the candidate alone against stored 16-bit logits, reached 0.86 (F32) and 1.08 (BF16) of the
plain forward where the notes were measured.
"""

import argparse
import math
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from benchmarks.side_by_side import in_turn, show
from qfund.checkpoints import catalog, checkpoint
from qfund.features.compare.measure.compare import compare
from qfund.features.compare.measure.rounds import Rounds
from qfund.features.compare.measure.streamed import measure_streamed
from qfund.features.compare.measure.whole import forward
from qfund.features.compare.request.spec import DEFAULT_TOKENS, PARTS, Spec
from qfund.models import inputs, tasks
from qfund.models.comparison.positions import Candidate, Comparison
from qfund.models.loading import load
from qfund.precisions.table import PRECISIONS
from qfund.stream import head


def timed(work: object) -> tuple[float, float]:
    """Wall and processor seconds."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()  # type: ignore[operator]
    return time.perf_counter() - wall, time.process_time() - cpu


def parts(rounds: int, tokens: int, precisions: list[str]) -> None:
    """What each part that may be left out adds to a comparison of all of these."""
    whole = Spec("pydoc-llama", precisions=tuple(precisions), max_tokens=tokens)
    left_out = {"everything": (), **{f"without {name}": (name,) for name in PARTS}, "without all three": tuple(PARTS)}

    def measured(without: tuple[str, ...]) -> float:
        return timed(lambda: compare(replace(whole, without=without)))[1]

    turns = {name: (lambda without=without: measured(without)) for name, without in left_out.items()}
    show(f"{whole.max_tokens:,} tokens, {' '.join(precisions)}", in_turn(turns, rounds), "everything", "CPU s")


#: Name, width, inner width, blocks, heads, heads of keys, vocabulary.
SHAPES = (
    ("TinyLlama 1.1B", 2048, 5632, 22, 32, 4, 32_000),
    ("SmolLM2 135M", 576, 1536, 30, 9, 3, 49_152),
    ("Llama 3.2 1B", 2048, 8192, 16, 32, 8, 128_256),
    ("Qwen2.5 0.5B", 896, 4864, 24, 14, 2, 151_936),
)


def shaped(width: int, inner: int, blocks: int, heads: int, keys: int, vocabulary: int) -> Any:
    """A random Llama whose blocks are one block, again and again."""
    config = LlamaConfig(
        hidden_size=width,
        intermediate_size=inner,
        num_hidden_layers=1,
        num_attention_heads=heads,
        num_key_value_heads=keys,
        vocab_size=vocabulary,
        tie_word_embeddings=True,
        use_cache=False,
    )
    model = LlamaForCausalLM(config).eval()
    model.model.layers.extend([model.model.layers[0]] * (blocks - 1))
    model.config.num_hidden_layers = blocks
    return model


@torch.inference_mode()
def share(name: str, model: Any, ids: Tensor, rounds: int) -> None:
    """Print what statistics of its logits cost beside its forward, which is run ``rounds`` times."""
    found: dict[str, tuple[float, float]] = {}

    def note(what: str, work: Callable[[], object]) -> None:
        found[what] = min(found.get(what, (math.inf, math.inf)), timed(work)[::-1])

    vocabulary, width = model.config.vocab_size, model.config.hidden_size
    logits = model(ids).logits.flatten(0, 1)
    others = {str(number): logits + 0.02 * torch.randn_like(logits) for number in range(3)}
    targets = ids.roll(-1, 1).flatten()
    # As a walk gives them: a large head a part of the vocabulary at a time.
    parts = list(head.tiles(vocabulary, width)) if vocabulary * width > head.WHOLE else None

    def statistics_of(count: int) -> None:
        few = {name: others[name] for name in list(others)[:count]}
        comparison = Comparison({name: Candidate() for name in few})
        if parts is None:
            comparison.add_logits(logits, few, targets)
            return
        taken = comparison.logits(few, len(logits), targets, logits.device)
        for start, end in parts:
            taken.add(start, logits[:, start:end], {name: other[:, start:end] for name, other in few.items()})
        comparison.take(taken)

    for _ in range(rounds):
        note("forward", lambda: model(ids))
        for count in (1, 3):
            note(str(count), lambda count=count: statistics_of(count))  # type: ignore[misc]
    for place, clock in enumerate(("cpu", "wall")):
        forward, one, three = (found[what][place] for what in ("forward", "1", "3"))
        each = (three - one) / 2
        print(
            f"{name:15} {vocabulary:8,} {width:6,}  {clock:4}  "
            f"forward {1e9 * forward / logits.numel():6.1f} ns a logit, "
            f"a candidate {each / forward:6.1%}, the reference {(one - each) / forward:6.1%}",
            flush=True,
        )


def shares(rounds: int) -> None:
    """Of the shipped model and of the shapes."""
    source = catalog.locate("pydoc-llama")
    assert source.folder is not None
    found = checkpoint.read(source.folder)
    prepared = inputs.prepare(Spec("pydoc-llama", max_tokens=1024), source, found, tasks.task_of(found))
    share("pydoc-llama", load(found, PRECISIONS["fp32"]).model, prepared.batches[0].arguments["input_ids"], rounds)
    for name, *shape in SHAPES:
        share(name, shaped(*shape), torch.randint(0, shape[-1], (1, 256)), 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=DEFAULT_TOKENS)
    parser.add_argument("--parts", action="store_true", help="what drift, token map and noise cost")
    parser.add_argument("--precisions", nargs="+", default=["fp32", "bf16", "int8", "int4"])
    parser.add_argument("--shares", action="store_true", help="what statistics cost with small and large vocabularies")
    given = parser.parse_args()
    if given.shares:
        shares(given.rounds)
        return
    if given.parts:
        parts(given.rounds, given.tokens, [name for name in given.precisions if name != "fp32"])
        return
    source = catalog.locate("pydoc-llama")
    assert source.folder is not None
    found = checkpoint.read(source.folder)
    task = tasks.task_of(found)
    prepared = inputs.prepare(Spec("pydoc-llama", max_tokens=given.tokens), source, found, task)
    tokens = sum(batch.arguments["input_ids"].numel() for batch in prepared.batches)
    model = load(found, PRECISIONS["fp32"]).model

    def plain() -> None:
        for batch in prepared.batches:
            forward(model, batch, PRECISIONS["fp32"])

    def compared(name: str) -> None:
        spec = Spec("pydoc-llama", precisions=(name,))
        rounds = Rounds(prepared.batches, spec.precisions)
        measure_streamed(spec, found, {}, task, rounds, (), 1 << 40, lambda phase, share: None)

    print(f"{tokens:,} tokens, {given.rounds} rounds in turns; medians of ratios to the plain FP32 forward")
    for name in given.precisions:
        compared(name)  # kernels, and quantised blocks on disk
        rounds = [(timed(plain), timed(lambda name=name: compared(name))) for _ in range(given.rounds)]
        for which, place in (("wall", 0), ("cpu", 1)):
            alone = statistics.median(one[place] / max(both[place] - one[place], 1e-9) for one, both in rounds)
            both_ = statistics.median(2 * one[place] / both[place] for one, both in rounds)
            rate = tokens / statistics.median(one[place] for one, _ in rounds)
            print(f"{name:6} {which:4}  candidate {alone:.2f}  both {both_:.2f}  (plain: {rate:,.0f} tokens/s)")


if __name__ == "__main__":
    main()
