"""The comparisons that ship with the example model."""

from qfund.features.compare.request.spec import Spec
from qfund.precisions.precision import MEANING, STORED
from qfund.precisions.table import PRECISIONS, unavailable

EXAMPLE = Spec("pydoc-llama")
#: The example in every precision that a CPU runs, but for what else is called BF16 or FP16 and for GGUF files as they
#: are run: those say where a loss comes from, not what to choose, and stand in one spot of a picture of bits against
#: damage.
EVERY_PRECISION = Spec(
    "pydoc-llama",
    precisions=tuple(
        row.name
        for row in PRECISIONS.values()
        if row.name != EXAMPLE.reference
        and row.family not in (STORED, MEANING)
        and not row.as_run
        and not unavailable(row, "cpu")
    ),
)
