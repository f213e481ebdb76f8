"""Every precision on every architecture: does it run, are its bytes foretold, and what do weights and text lose.

    python -m benchmarks.precisions > docs/precisions.md

Tiny random checkpoints (tests/checkpoints.py) for the matrix; the shipped language model for quality and for time,
whose ratios come from turns within one run.
"""

import os
import sys
from collections.abc import Iterator

from qfund import compare
from qfund.engine import compute, key_of, shipped
from qfund.features.compare.request.examples import EVERY_PRECISION
from qfund.features.compare.request.report import PrecisionResult, Report
from qfund.features.compare.request.spec import Spec, like_llama_cpp
from qfund.precisions import backends
from qfund.precisions.precision import MEANING, STORED, Precision
from qfund.precisions.table import PRECISIONS, unavailable

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # as the worker runs

#: Timed in turns with the reference.
TIMED = EVERY_PRECISION.precisions
TOKENS = 1024


def main() -> None:
    backends.quiet()
    print("# Precisions, measured\n\nWritten by `python -m benchmarks.precisions`.\n")
    _shipped()
    _meanings()
    _matrix()


def _shipped() -> None:
    found: Report | None = shipped.find(EVERY_PRECISION, key_of(EVERY_PRECISION), whole=False)
    if found is None:
        sys.exit("What ships is out of date: python -m training.measured pydoc-llama/compare-every")
    timed = {
        result.precision: result
        for result in compare("pydoc-llama", TIMED, max_tokens=TOKENS, libraries=True, progress=_say).results
    }
    own = found.reference.fidelity["perplexity"]
    print("## On the shipped language model\n")
    print(
        f"On {found.environment.cpu}. Held-out text of {found.input.tokens:,} tokens, on which FP32 has a perplexity of"
    )
    print(f"{own.value:.3f}. *Time* is a forward of {TOKENS:,} tokens over the reference's, in turns: of qfund's own,")
    print("which dequantises before it multiplies, then of the libraries', with the bytes that they store.\n")
    titles = ("precision", "bits a weight", "memory", "byte error", "SQNR floor", "perplexity", "KL (nat)", "top-1")
    _table(*titles, "time", "libraries")
    for result in found.results:
        row, f = PRECISIONS[result.precision], result.fidelity
        ratio = f["perplexity_ratio"]
        beside = timed.get(result.precision)
        assert result.predicted_bytes is not None
        cells = [
            f"`{row.name}`",
            f"{result.bits_per_weight or row.bits:.3g}",
            f"{100 * result.footprint_bytes / found.reference.footprint_bytes:.1f} %",
            f"{result.footprint_bytes - result.predicted_bytes}",
            f"{row.sqnr_floor:.0f} dB" if row.sqnr_floor < 200 else "–",
            f"× {ratio.value:.4f} ± {ratio.se:.4f}",
            f"{f['kl_mean'].value:.2e}",
            f"{100 * f['top1_agreement'].value:.2f} %",
            f"× {beside.latency.value:.2f}" if beside and beside.latency else "–",
            "; ".join(_libraries(beside)) if beside else "",
        ]
        _row(*cells)
    print()


def _meanings() -> None:
    """What else is called BF16 and FP16, scored as llama.cpp does."""
    names = tuple(row.name for row in PRECISIONS.values() if row.family == MEANING or row.name in ("bf16", "fp16"))
    found = compute(like_llama_cpp(Spec("pydoc-llama", precisions=names)), progress=_say)
    print("## What BF16 and FP16 mean\n")
    print(f"The shipped model on {found.input.tokens:,} tokens, second half of each chunk as llama.cpp scores it.\n")
    _table("precision", "stored (B)", "perplexity", "KL (nat)", "KL, 99th percentile", "top-1", "arithmetic")
    for result in sorted(found.results, key=lambda result: result.fidelity["kl_mean"].value):
        f = result.fidelity
        _row(
            f"`{result.precision}`",
            f"{result.footprint_bytes:,}",
            f"{f['perplexity'].value:.4f}",
            f"{f['kl_mean'].value:.2e}",
            f"{f['kl_p99'].value:.2e}",
            f"{100 * f['top1_agreement'].value:.2f} %",
            PRECISIONS[result.precision].arithmetic,
        )
    print()


def _table(*titles: str) -> None:
    _row(*titles)
    print("|" + "---|" * len(titles))


def _row(*cells: str) -> None:
    print(f"| {' | '.join(cells)} |")


def _libraries(result: PrecisionResult) -> Iterator[str]:
    for one in result.libraries:
        if one.latency is None:
            yield str(one.problem)
        else:
            yield f"{one.library} × {one.latency.value:.2f}, {one.footprint_bytes:,} B"


def _matrix() -> None:
    from qfund.checkpoints import checkpoint
    from qfund.core.errors import QfundError
    from qfund.models import skeleton
    from qfund.models.loading import load
    from tests.tiny.checkpoints import CHECKPOINTS, folder

    rows = [row for row in PRECISIONS.values() if row.family != STORED]
    print("## On every architecture of the tests\n")
    print("Stored and counted bytes against those foretold from shapes; how many modules were converted and left.\n")
    _table("architecture", "precisions loaded", "byte error", "converted / left (int8)", "refused")
    for name, tiny in CHECKPOINTS.items():
        found = checkpoint.read(folder(name))
        loaded, errors, refused, modules = 0, [], [], ""
        for row in rows:
            if unavailable(row, "cpu"):
                continue
            try:
                model = load(found, row)
                errors.append(abs(model.footprint.bytes - skeleton.predict(found, row).bytes))
            except QfundError as error:
                refused.append((row.name, error.message))
                continue
            loaded += 1
            if row.name == "int8":
                modules = f"{len(model.converted)} / {len(model.left)}"
        why = "; ".join(sorted({f"would {message.partition(' would ')[2]}" for _, message in refused}))
        names = ", ".join(f"`{name}`" for name, _ in refused)
        _row(
            f"{tiny.architecture} ({name})", f"{loaded}", f"{max(errors)}", modules, f"{names}{': ' * bool(names)}{why}"
        )
        _say(name, 1.0)
    print("\n## Emulated here\n")
    print("Stored as the format says; the multiplication is not what hardware made for it does.\n")
    for row in rows:
        if row.emulated and not row.variant_of:
            print(f"- `{row.name}`: {row.emulated}")
    print("\n## Not on this device\n")
    for row in rows:
        if reason := unavailable(row, "cpu"):
            print(f"- `{row.name}`: {reason}")
    _print_treatment(rows)


def _print_treatment(rows: list[Precision]) -> None:
    print("\n## What becomes of which modules\n")
    for treatment in dict.fromkeys(row.treatment for row in rows):
        names = ", ".join(f"`{row.name}`" for row in rows if row.treatment == treatment and not row.variant_of)
        print(f"- {names}: {treatment}")


def _say(phase: str, share: float) -> None:
    print(f"{share:4.0%} {phase}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
