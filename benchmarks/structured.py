"""Recipes of a larger model with structure in its weights:  python -m benchmarks.structured [WIDTH LAYERS TEST_TOKENS]

A Llama of random weights, written to a temporary folder beside the shipped model's tokenizer. As trained ones
have: columns of a few channels are 4 to 12 times as large as the others in every matrix that reads the residual stream
(outlier channels, the same in all blocks), rows of a matrix differ in scale (log-normal, σ = 0.4), one weight in a
thousand is 6 times as large, and blocks add to the stream by log-normal gains (σ = 0.6). Sensitivities by gradients,
the recipe from them at 5 and 4.75 bits, and the best uniform precision of no more bytes on text that was not searched;
processor time and memory of each.
"""

import resource
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from qfund.checkpoints import catalog
from qfund.features.compare.measure.compare import compare
from qfund.features.compare.request.spec import Spec
from qfund.features.layers.measure.searched import recipe
from qfund.features.layers.measure.swapped import swaps
from qfund.features.layers.request.recipe import RecipeRequest
from qfund.features.layers.request.swaps import SwapsRequest, additivity
from qfund.features.layers.words import foretold, recipe_headline
from qfund.inputs.evaluation import evaluation_text
from qfund.precisions import backends

ROWS = ("int8", "int5", "int4", "int4_g128", "int3", "nf4")
SEED = 18
READS = ("q_proj", "k_proj", "v_proj", "gate_proj", "up_proj")
WRITES = ("o_proj", "down_proj")


def made(width: int, layers: int, folder: Path) -> int:
    """Writes the model; how many weights it has."""
    source = catalog.locate(catalog.EXAMPLE).folder
    assert source is not None
    heads = width // 64
    config = LlamaConfig(
        vocab_size=2048,
        hidden_size=width,
        intermediate_size=width * 11 // 4 // 128 * 128,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=max(1, heads // 2),
        max_position_embeddings=256,
        bos_token_id=0,
        eos_token_id=0,
        tie_word_embeddings=False,  # else a token's own logit grows with the width until nothing else counts
    )
    torch.manual_seed(SEED)
    model = LlamaForCausalLM(config)
    loud = torch.randperm(width)[: width // 100 + 1]
    with torch.no_grad():
        for block in model.model.layers:
            gain = float(torch.randn(()).mul(0.6).exp())
            for name, module in block.named_modules():
                kind = name.rpartition(".")[2]
                if kind not in (*READS, *WRITES):
                    continue
                rows, columns = module.weight.shape
                weight = torch.randn(rows, columns) / columns**0.5 * torch.randn(rows, 1).mul(0.4).exp()
                weight *= 1 + 5 * (torch.rand(rows, columns) < 1e-3)
                if kind in READS:
                    weight[:, loud] *= 4 + 8 * torch.rand(len(loud))
                else:
                    weight *= gain / (2 * layers) ** 0.5
                module.weight.copy_(weight)
        for table in (model.model.embed_tokens, model.lm_head):
            table.weight.normal_(std=1.0)
        model.model.norm.weight.fill_(3.3 / width**0.5)  # about 2 nat of entropy, as trained ones have
    model.save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(source / name, folder / name)
    return sum(parameter.numel() for parameter in model.parameters())


def main() -> None:
    backends.quiet()
    width, layers, test = [int(value) for value in sys.argv[1:]] or [512, 12, 8192]
    with tempfile.TemporaryDirectory() as folder:
        count = made(width, layers, Path(folder))
        print(f"{count / 1e6:.0f} M weights, width {width}, {layers} blocks", flush=True)
        text, _ = evaluation_text(catalog.locate(catalog.EXAMPLE))
        common: dict[str, Any] = {"model": folder, "text": text}

        def timed(what: str, started: float) -> None:
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            seconds = time.process_time() - started
            print(f"{what}: {seconds:.0f} s of processor time, peak so far {peak:,.0f} MiB", flush=True)

        started = time.process_time()
        compare(Spec(precisions=ROWS, max_tokens=512, **common))
        timed(f"one comparison of {len(ROWS)} precisions on 512 tokens", started)
        started = time.process_time()
        single = swaps(SwapsRequest(precisions=ROWS[2:3], max_tokens=512, part="block", **common))
        timed(f"swaps of {layers} blocks in INT4 on 512 tokens", started)
        print(f"  everything at once over the sum: {additivity(single, ROWS[2]):.2f}")
        for bits in (5.0, 4.75):
            started = time.process_time()
            asked: dict[str, Any] = {"max_tokens": 512, "test_tokens": test, "bits": bits, "by": "gradient"}
            found = recipe(RecipeRequest(precisions=ROWS, **asked, **common))
            timed(f"a recipe of {bits} bits by gradients on 512 tokens, tested on {test:,}", started)
            print(f"  {recipe_headline(found)}\n  {foretold(found)}", flush=True)


if __name__ == "__main__":
    main()
