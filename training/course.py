"""Compute what the course's published figures are today:  python -m training.course

No weights are fetched: sizes follow from configurations (``memory.measure.plan``), the toy model from its seed.
"""

import copy
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import numpy as np
import torch
import transformers

from qfund.checkpoints.checkpoint import Checkpoint
from qfund.features.lesson.request.published import FILE, CourseFigure, CourseFigures
from qfund.models.dummy import DummyConfig, DummyModel
from qfund.models.footprint import Footprint
from qfund.models.skeleton import Skeletons
from qfund.precisions.table import PRECISIONS

#: google/flan-t5-small where its config differs from T5Config's defaults; it does not tie its head.
FLAN_T5_SMALL: dict[str, Any] = {
    "d_model": 512,
    "d_kv": 64,
    "d_ff": 1024,
    "num_heads": 6,
    "num_layers": 8,
    "feed_forward_proj": "gated-gelu",
    "vocab_size": 32128,
    "tie_word_embeddings": False,
}
_UNTIED = (
    "transformers 5 ties the output head to the embeddings, transformers 4 held both: with the head's own weights the "
    "figure is the published one."
)


def sizes(architecture: str, config: Any, *precisions: str) -> dict[str, Footprint]:
    """Precision → what a model of this configuration stores in it."""
    with TemporaryDirectory() as folder:
        config.architectures = [architecture]
        config.save_pretrained(folder)
        found = Checkpoint(Path(folder), config.to_dict(), {}, "config")
        skeletons = Skeletons(found)
        return {name: skeletons.footprint(PRECISIONS[name]) for name in precisions}


def tied(footprint: Footprint, of: str) -> tuple[int, int]:
    """Rows and columns of the weight ``of``, which another one holds."""
    row = next(row for row in footprint.tensors if row.name == of)
    assert row.shared_with is not None, f"{of} is not tied any more"
    rows, columns = row.shape
    return rows, columns


def thirds() -> list[CourseFigure]:
    """1/3 to 60 decimals."""
    published = {"float32": "0.333333343…", "float16": "0.333251953125", "bfloat16": "0.333984375"}
    return [
        CourseFigure(
            f"third_{name}",
            "cast",
            f"1/3 in {name}",
            then,
            f"{torch.tensor(1 / 3, dtype=getattr(torch, name)).item():.60f}".rstrip("0"),
        )
        for name, then in published.items()
    ]


def dummy() -> list[CourseFigure]:
    torch.manual_seed(123)
    model: Any = DummyModel(DummyConfig())
    ids = torch.tensor([[1, 0], [0, 1]])
    with torch.no_grad():
        logits = model(ids).logits
        cast = copy.deepcopy(model).to(torch.bfloat16)(ids).logits
        try:
            half = str(copy.deepcopy(model).half()(ids).logits.dtype).removeprefix("torch.")
        except RuntimeError as error:
            half = str(error)
    difference = (logits - cast.float()).abs()
    assert (logits - logits[0, 0]).abs().max() < 1e-6  # the same at every position
    return [
        *(
            CourseFigure(
                f"logit_{place}",
                "inference",
                f"DummyModel, logit {place} at every position",
                then,
                logits[0, 0, place].item(),
                digits=4,
            )
            for place, then in enumerate((-0.6872, 0.7132))
        ),
        CourseFigure(
            "half",
            "inference",
            "DummyModel in FP16 on a CPU",
            "\"addmm_impl_cpu_\" not implemented for 'Half'",
            f"runs, logits in {half}" if half == "float16" else half,
            why="torch's CPU kernels know FP16 now.",
        ),
        CourseFigure(
            "mean_difference",
            "outputs",
            "DummyModel, mean |FP32 − BF16| of the logits",
            0.0009978711605072021,
            difference.mean().item(),
            why=(
                "The largest difference is the same to the last digit. The mean is 2⁻²⁶ larger, as if two of eight "
                "logits had been rounded to the neighbouring FP32 number: another processor or torch adds in another "
                "order."
            ),
        ),
        CourseFigure(
            "largest_difference",
            "outputs",
            "DummyModel, largest |FP32 − BF16| of the logits",
            0.0016907453536987305,
            difference.max().item(),
        ),
    ]


def blip() -> list[CourseFigure]:
    """Salesforce/blip-image-captioning-base: its configuration is BlipConfig's defaults."""
    found = sizes("BlipForConditionalGeneration", transformers.BlipConfig(), "fp32", "bf16")
    fp32, bf16 = found["fp32"].bytes, found["bf16"].bytes
    rows, columns = tied(found["fp32"], "text_decoder.cls.predictions.decoder.weight")
    own = {"fp32": fp32 + 4 * rows * columns, "bf16": bf16 + 2 * rows * columns}
    integers = sum(row.bytes for row in found["bf16"].tensors if "int" in row.dtype)
    return [
        CourseFigure(
            "blip_fp32",
            "footprint",
            "BLIP captioner in FP32",
            989_660_400,
            fp32,
            own["fp32"],
            None,
            "B",
            _UNTIED,
        ),
        CourseFigure(
            "blip_bf16",
            "footprint",
            "BLIP captioner in BF16",
            494_832_248,
            bf16,
            own["bf16"],
            None,
            "B",
            _UNTIED,
        ),
        CourseFigure(
            "blip_ratio",
            "footprint",
            "BLIP captioner, BF16 ÷ FP32",
            0.5000020693967345,
            bf16 / fp32,
            own["bf16"] / own["fp32"],
            why=f"Above one half by {integers:,} bytes of int64 position ids, which no cast shrinks. {_UNTIED}",
        ),
        CourseFigure("blip_captions", "outputs", "BLIP captioner, captions in FP32 and BF16", "side by side", None),
    ]


def flan() -> list[CourseFigure]:
    found = sizes("T5ForConditionalGeneration", transformers.T5Config(**FLAN_T5_SMALL), "fp32", "int8")
    fp32, int8 = found["fp32"].bytes, found["int8"].bytes
    rows, columns = tied(found["fp32"], "lm_head.weight")
    # Quantised as every other linear layer was: a byte a weight and a scale a row; and two scales that quanto keeps
    # for the input and the output of each layer.
    layers = sum(row.kind == "scale" for row in found["int8"].tensors) + 1
    own_fp32, own_int8 = fp32 + 4 * rows * columns, int8 + rows * columns + 4 * rows + 8 * layers
    quanto = (
        f"{_UNTIED} quanto quantised the head too, and kept two scales of 4 bytes for each of {layers} linear layers."
    )
    return [
        CourseFigure(
            "flan_fp32",
            "savings",
            "flan-t5-small in FP32",
            307_844_608,
            fp32,
            own_fp32,
            None,
            "B",
            _UNTIED,
        ),
        CourseFigure(
            "flan_int8",
            "savings",
            "flan-t5-small, weights of linear layers in INT8",
            126_828_680,
            int8,
            own_int8,
            None,
            "B",
            quanto,
        ),
        CourseFigure(
            "flan_times",
            "savings",
            "flan-t5-small, how many times smaller",
            2.43,
            fp32 / int8,
            own_fp32 / own_int8,
            2,
            "×",
            "Not 4×: the embeddings stay in FP32. With the head tied to them nothing of the vocabulary is quantised; "
            "with a quantised head of its own, as then, the figure is the published one.",
        ),
        CourseFigure("flan_text", "savings", "flan-t5-small, 'Hello, my name is ' after INT8", "the same text", None),
    ]


def linear() -> list[CourseFigure]:
    """The 3 × 3 example of the sequel, by its formulas, in FP32 as there."""
    weight = np.array([[191.6, -13.5, 728.6], [92.14, 295.5, -184], [0, 684.6, 245.5]], np.float32)
    low, high = -128, 127

    def error(scale: float, zero: int) -> float:
        codes = np.clip(np.round(weight / np.float32(scale) + zero), low, high)
        return float(np.square(np.float32(scale) * (codes - zero) - weight).mean())

    scale = float((weight.max() - weight.min()) / (high - low))
    zero = int(np.clip(round(low - float(weight.min()) / scale), low, high))
    packed = sum(code << 2 * place for place, code in enumerate((1, 0, 3, 2)))
    say = "3 × 3 example"
    return [
        CourseFigure("mse_guessed", "linear", f"{say}, MSE with s = 3.5, z = −70", 170.88, error(3.5, -70), digits=2),
        CourseFigure("scale", "linear", f"{say}, computed scale", 3.58, scale, digits=2),
        CourseFigure("zero_point", "linear", f"{say}, computed zero-point", -77, zero),
        CourseFigure("mse", "linear", f"{say}, MSE with both", 1.57, error(scale, zero), digits=2),
        CourseFigure("packed", "linear", "[1, 0, 3, 2] packed in 2 bits each", 177, packed),
    ]


def compute() -> CourseFigures:
    versions = {name: metadata.version(name) for name in ("torch", "transformers")}
    return CourseFigures(versions, tuple(figure for part in (thirds, dummy, blip, flan, linear) for figure in part()))


def main() -> None:
    found = compute()
    FILE.write_bytes(msgspec.json.format(msgspec.json.encode(found), indent=1) + b"\n")
    for figure in found.figures:
        print(f"{figure.verdict:12} {figure.what}: {figure.then} → {figure.now} ({figure.again})")


if __name__ == "__main__":
    main()
