"""Load peaks beside what plain transformers' process takes: ``python -m benchmarks.loads [NAME …]``.

Random models with tied and untied heads, experts, latent attention, states, an encoder and a decoder. *Need* is what
``qfund load-peak`` says of a load, and of a forward after it; *process* is by how much the private memory of another
fresh process grew at most, by the kernel's own mark (``benchmarks.peak``), where safetensors reads into private memory:
then no page of a file is counted that could be dropped, and none is missed that is needed.
"""

import argparse
import tempfile
from pathlib import Path

import torch
import transformers

from benchmarks import fits, peak
from qfund.checkpoints import checkpoint
from qfund.features.memory.measure.loading.messages import Job
from qfund.features.memory.measure.loading.summary import summarize_forward, summarize_load
from qfund.features.memory.measure.loading.watch import run
from qfund.features.memory.request.load_peak import FORWARD_TOKENS
from qfund.models.skeleton import predict
from qfund.precisions import backends
from qfund.precisions.table import PRECISIONS

MODELS = ("llama-gqa", "gemma2", "mixtral", "deepseek-v2", "falcon-h1", "gpt2", "bert", "t5")
#: Precision and way.
WAYS = (
    ("fp32", "direct"),
    ("bf16", "direct"),
    ("bf16", "cast"),
    ("bf16", "deepcopy"),
    ("int8", "quantised-direct"),
    ("int8_bf16", "quantise-after"),
    ("int8", "torchao-direct"),
)


def write(name: str, folder: Path) -> None:
    """The model in fp32, as random as it is made."""
    architecture, settings = fits.MODELS[name]
    kind = getattr(transformers, architecture)
    kind._from_config(kind.config_class(**settings), dtype=torch.float32).save_pretrained(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", choices=[*fits.MODELS, []], metavar="NAME")
    names = parser.parse_args().names or MODELS
    transformers.utils.logging.set_verbosity_error()
    backends.quiet()
    print("| model | precision | way | need | process | ratio | with a forward | process | ratio |")
    print("| --- | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    ratios: list[float] = []
    with peak.fresh_processes() as processes:
        for name in names:
            with tempfile.TemporaryDirectory() as folder:
                write(name, Path(folder))
                weights = predict(checkpoint.read(Path(folder)), PRECISIONS["fp32"]).parts["weights"]
                for precision, way in WAYS:
                    measured = processes.apply(peak.load_growth, (folder, precision, way, FORWARD_TOKENS))
                    found = run(Job(folder, precision, way, tokens=FORWARD_TOKENS))
                    borders, ran = found.loaded.borders, found.ran
                    load = summarize_load(borders, found.samples, weights, found.loaded.moments)
                    assert load is not None and ran is not None, "not sampled on this system"
                    forward = summarize_forward(borders, ran, found.samples, load.settled, weights)
                    cells = [name, precision, way]
                    for said, taken in zip((load, forward), measured, strict=True):
                        assert said is not None, ran.problem
                        ratios.append(said.need / taken)
                        cells += [f"{said.need / weights:.3f}", f"{taken / weights:.3f}", f"{ratios[-1]:.3f}"]
                    print("| " + " | ".join(cells) + " |", flush=True)
    ratios.sort()
    print(f"\nneed / process: {ratios[0]:.3f} to {ratios[-1]:.3f}; figures are multiples of the weights in fp32")


if __name__ == "__main__":
    main()
