"""What only a GPU runs, held against the processor's values: ``python -m benchmarks.device [--only NAME …]``.

One command for a machine that is lent for some minutes, without network; it ends with 1 where there is no GPU, or where
a value is out of its tolerance. Each check prints its figures at once, the next does not begin after ``--seconds``
(420), and what was left out is named. Tolerances, beside each figure:

- codes: those of at most one weight in 10 000 differ (an operation's last bit, at the border of two codes);
- products: relative distance to the processor's 1e-5 in FP32, 1e-2 in 16 bits (sums in another order);
- comparison: KL divergences and error of logits within a tenth of the processor's (the noise of sums);
- TF32: 2048 terms, relative error at most 1e-5 off, between 1e-5 and 1e-2 on.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from qfund.checkpoints import checkpoint
from qfund.core.errors import QfundError
from qfund.core.feature import lazily
from qfund.features.compare.measure.compare import compare
from qfund.features.compare.request.spec import Spec
from qfund.features.memory.measure.load_peak import load_peak
from qfund.features.memory.request.load_peak import LoadPeakRequest
from qfund.features.speed.measure.bounds import bounds
from qfund.features.speed.measure.speed import speed
from qfund.features.speed.request.speed import SpeedRequest
from qfund.models import cache
from qfund.models.environment import torch_device, wait_for
from qfund.models.forward import arithmetic
from qfund.models.loading.uploading import DeviceQueues, Queues, Uploads
from qfund.precisions.precision import GGUF
from qfund.precisions.quantizers import pieces
from qfund.precisions.quantizers.plan import LINEAR
from qfund.precisions.quantizers.quantizer import quantizer_of
from qfund.precisions.table import PRECISIONS


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is done: small ones try out the script itself."""

    side: int = 2048
    tokens: int = 4096
    copied: int = 2 * 1024**3
    layers: int = 6
    rounds: int = 12


class Said:
    """Prints figures, and counts those out of tolerance."""

    def __init__(self) -> None:
        self.wrong: list[str] = []

    def figure(self, text: str, right: bool = True) -> None:
        print(f"  {text}{'' if right else '   OUT OF TOLERANCE'}", flush=True)
        if not right:
            self.wrong.append(text)


def codes(device: torch.device, sizes: Sizes, said: Said) -> None:
    """Quantisers where a weight lies, and products with rounded activations."""
    generator = torch.Generator().manual_seed(0)
    for name, row in PRECISIONS.items():
        quantizer = quantizer_of(row)
        if quantizer is None or row.family == GGUF:
            continue
        dtype = getattr(torch, row.dtype)
        shape = sizes.side // 2, sizes.side
        weight, x = (torch.randn(rows, sizes.side, generator=generator).to(dtype) for rows in (shape[0], 33))
        found = []
        for place in (torch.device("cpu"), device):
            stored, _ = pieces.quantize(name, weight.to(place), LINEAR, quantizer)
            made = pieces.dequantize(quantizer, stored, shape, dtype)
            product = lazily(row.product)(x.to(place), quantizer, stored, shape, None) if row.product else None
            found.append((made.cpu().double(), None if product is None else product.cpu().double()))
        (here, own), (there, other) = found
        share = float((here != there).double().mean())
        text = f"{name:20} weights that differ {share:.2e} (1e-4)"
        right = share <= 1e-4
        if own is not None and other is not None:
            apart, most = float((own - other).norm() / own.norm()), 1e-5 if dtype == torch.float32 else 1e-2
            text, right = f"{text}, product {apart:.1e} ({most:.0e})", right and apart <= most
        said.figure(text, right)


def tf32(device: torch.device, sizes: Sizes, said: Said) -> None:
    """Multiplications of FP32, and their time, with TF32 off and on; it is off again after an exception."""
    one, other = (torch.randn(sizes.side, sizes.side, device=device) for _ in range(2))
    exact = one.double() @ other.double()
    parts: Any = torch.backends
    before = parts.cuda.matmul.fp32_precision
    taken = {}
    for name, (least, most) in {"fp32": (0.0, 1e-5), "tf32": (1e-5, 1e-2)}.items():
        with arithmetic(PRECISIONS[name]):
            apart = float((one @ other - exact).norm() / exact.norm())
            taken[name] = _seconds(lambda: one @ other, device, sizes.rounds)
        said.figure(f"{name}: relative error {apart:.1e} ({least:.0e} … {most:.0e})", least <= apart <= most)
    said.figure(f"TF32 is {taken['fp32'] / taken['tf32']:.1f} times as fast at {sizes.side}²")
    try:
        with arithmetic(PRECISIONS["tf32"]):
            raise ZeroDivisionError
    except ZeroDivisionError:
        after = parts.cuda.matmul.fp32_precision
    said.figure(f"after an exception: {after!r}, as before", after == before)


def comparison(device: torch.device, sizes: Sizes, said: Said) -> None:
    """A comparison in memory on both: what each precision costs, tf32 and float8 products too."""
    names = ("bf16", "fp16", "int8", "int4", "nf4", "int8_dynamic", "fp8_dynamic")
    more = ("tf32",) if device.type == "cuda" else ()
    with on("cpu"):
        expected = compare(Spec("pydoc-llama", precisions=names, max_tokens=sizes.tokens))
    with on(str(device)):
        found = compare(Spec("pydoc-llama", precisions=(*names, *more), max_tokens=sizes.tokens))
    said.figure(f"{expected.seconds:.1f} s on the processor, {found.seconds:.1f} s on {found.environment.device}")
    before = {row.precision: row.fidelity for row in expected.results}
    for row in found.results:
        kl, here = row.fidelity["kl_mean"].value, before.get(row.precision)
        if here is None:
            said.figure(f"{row.precision:20} KL divergence {kl:.3e}")
            continue
        own = here["kl_mean"].value
        said.figure(
            f"{row.precision:20} KL divergence {kl:.4e}, processor {own:.4e}", abs(kl - own) <= 0.1 * own + 1e-9
        )


def peaks(device: torch.device, sizes: Sizes, said: Said) -> None:
    """What torch's allocator held while a model was loaded, in a process for each way."""
    with on(str(device)):
        for way in load_peak(LoadPeakRequest("pydoc-llama", ("bf16", "int8"))).ways:
            if way.problem is not None or way.device_peak is None:
                said.figure(f"{way.precision} {way.way}: {way.problem}", way.problem is not None)
                continue
            multiple = way.device_peak / (way.footprint_bytes or 1)
            said.figure(f"{way.precision} {way.way}: device peak {multiple:.2f} × what stays", multiple >= 0.99)


def energy(device: torch.device, sizes: Sizes, said: Said) -> None:
    """Speeds, and joules a token by NVML."""
    request = SpeedRequest("pydoc-llama", ("bf16", "int8"), depths=(128,), batches=(1,), rounds=sizes.rounds)
    with on(str(device)):
        found = speed(request)
    said.figure(found.energy)
    for run in found.runs:
        for point in run.points:
            joules = "not measured" if point.joules is None else f"{point.joules:.3g} J"
            rates = f"reads {point.prefill.median:,.0f} tokens/s, writes {point.decode.median:,.0f}"
            said.figure(f"{run.precision} {run.backend}: {rates}, {joules} a token")


def uploads(device: torch.device, sizes: Sizes, said: Said) -> None:
    """Copies through two buffers beside the limit of copies from pinned memory, alone and while the GPU multiplies."""
    queues, limit = DeviceQueues(device), transfer(device, sizes)
    stored = {str(number): torch.ones(sizes.copied // 64, dtype=torch.float32) for number in range(16)}
    alone = _seconds(lambda: _uploaded(queues, stored), device, 3)
    side = 4 * sizes.side
    one = torch.randn(side, side, device=device, dtype=torch.bfloat16)
    once = _seconds(lambda: one @ one, device, 3)
    count = max(1, round(alone / once))

    def multiplied() -> None:
        for _ in range(count):
            one @ one

    def both() -> None:
        coming = begun.begin(stored)
        multiplied()
        coming.wait()

    begun = Uploads(queues)
    computing, together = _seconds(multiplied, device, 3), _seconds(both, device, 3)
    coming = begun.begin(stored)
    coming.wait()
    begun.close()
    said.figure(f"transfer limit {limit / 1e9:.1f} GB/s; two buffers {sizes.copied / alone / limit:.0%} of it")
    hidden = (alone + computing - together) / min(alone, computing)
    said.figure(f"copies {alone:.3f} s, products {computing:.3f} s, both {together:.3f} s: {hidden:.0%} overlap")
    said.figure("what arrived is what was sent", all(bool((part == 1).all()) for part in coming.tensors.values()))


def streamed(device: torch.device, sizes: Sizes, said: Said) -> None:
    """A walk over a random Llama: weights sent a second beside the limit, and products beside the matrix peak."""
    from benchmarks import stream as walk

    names, tokens = ("bf16", "fp16", "int8", "int4"), sizes.tokens
    with tempfile.TemporaryDirectory() as folder:
        home = walk.make(Path(folder) / "llama", sizes.layers)
        given = walk.batches(tokens)
        with on(str(device)):
            walk.streamed(home, names[:1], walk.batches(walk.CHUNK))  # kernels are there, and files in memory
            started = time.perf_counter()
            walk.streamed(home, names, given)
            seconds = time.perf_counter() - started
        weights = sum(tensor.bytes for tensor in checkpoint.read(home).tensors.values()) // 4
    said.figure(f"{weights / 1e6:.0f} M weights, {tokens} tokens, FP32 and {len(names)} more: {seconds:.1f} s")
    for line in shares(device, weights, names, tokens, seconds, sizes):
        said.figure(line)


def shares(
    device: torch.device, weights: int, names: Sequence[str], tokens: int, seconds: float, sizes: Sizes
) -> Iterator[str]:
    """What a walk with FP32 as its reference reached of the device's limits: of copies from pinned memory (every form
    of every weight once), and of products in the dtype of each precision."""
    limit = transfer(device, sizes)
    forms = [4.0, *(PRECISIONS[name].bits / 8 for name in names)]
    yield f"transfers: {weights * sum(forms) / limit / seconds:.0%} of the limit of {limit / 1e9:.1f} GB/s"
    dtypes = ["float32", *(PRECISIONS[name].dtype for name in names)]
    peaks = bounds(dtypes, device).peaks
    least = sum(2 * weights * tokens / peaks[dtype] for dtype in dtypes)
    yield f"products: {least / seconds:.0%} of the matrix peaks: " + ", ".join(
        f"{dtype} {peak / 1e12:.3g} TFLOP/s" for dtype, peak in peaks.items()
    )


def transfer(device: torch.device, sizes: Sizes) -> float:
    """Bytes a second of the fastest copy from pinned memory."""
    queues = DeviceQueues(device)
    pinned = queues.buffer(min(sizes.copied, 512 * 1024**2))
    there = queues.empty(pinned)
    return len(pinned) / _seconds(lambda: there.copy_(pinned, non_blocking=True), device, 5)


Check = Callable[[torch.device, Sizes, Said], None]
#: In the order of what matters, should the time not suffice.
CHECKS: Mapping[str, Check] = {
    check.__name__: check for check in (codes, tf32, comparison, uploads, peaks, energy, streamed)
}


def run(
    device: torch.device,
    names: Sequence[str],
    seconds: float,
    sizes: Sizes | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> int:
    """0 where every figure is within its tolerance and all was run, else 1."""
    said, left, started = Said(), list(names), clock()
    while left and clock() - started < seconds:
        name = left.pop(0)
        began = clock()
        print(f"{name}: {(CHECKS[name].__doc__ or '').splitlines()[0]}", flush=True)
        try:
            CHECKS[name](device, sizes or Sizes(), said)
        except (RuntimeError, QfundError, OSError, ValueError, TypeError, KeyError) as error:  # the others are run
            said.figure(f"{name} failed: {type(error).__name__}: {error}", False)
        print(f"  [{clock() - began:.0f} s]", flush=True)
    if left:
        print(f"Not run, for want of time: {', '.join(left)}. Name them with --only.")
    print(f"{len(said.wrong)} out of tolerance." if said.wrong else "All within their tolerances.")
    return int(bool(said.wrong or left))


@contextmanager
def on(device: str) -> Iterator[None]:
    """``QFUND_DEVICE``, with no model of another one in memory."""
    before = os.environ.get("QFUND_DEVICE", "cpu")
    os.environ["QFUND_DEVICE"] = device
    vars(cache)["_cache"] = None
    try:
        yield
    finally:
        os.environ["QFUND_DEVICE"] = before
        vars(cache)["_cache"] = None


def _uploaded(queues: Queues, stored: Mapping[str, Tensor]) -> None:
    uploading = Uploads(queues)
    uploading.begin(stored).wait()
    uploading.close()


def _seconds(call: Callable[[], object], device: torch.device, rounds: int) -> float:
    """The shortest, after one that is not counted."""
    found = float("inf")
    for number in range(rounds + 1):
        started = time.perf_counter()
        call()
        wait_for(device)
        found = min(found, time.perf_counter() - started) if number else found
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default=os.environ.get("QFUND_DEVICE", "cuda"))
    parser.add_argument("--only", nargs="+", default=list(CHECKS), choices=CHECKS)
    parser.add_argument("--seconds", type=float, default=420.0)
    given = parser.parse_args()
    os.environ["QFUND_DEVICE"] = given.device
    os.environ.setdefault("QFUND_CACHE_GIB", "0")
    try:
        device = torch_device()
    except QfundError as error:
        sys.exit(f"No GPU here: {error.message}")
    if device.type == "cpu":
        sys.exit("No GPU here: the processor is what values are held against.")
    sys.exit(run(device, given.only, given.seconds))


if __name__ == "__main__":
    main()
