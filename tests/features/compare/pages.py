"""Comparisons that tests of pages ask for, and what a visitor reads of them."""

from functools import partial

from qfund.engine.kinds import KINDS
from qfund.features.compare.request.spec import Spec
from qfund.features.compare.view.sections import SECTIONS
from qfund.inputs.texts import NamedText
from tests.ui import pages

HALF = "50.4\u00a0% of the memory (960\u00a0B instead of 1.86\u00a0KiB)"  # what BF16 takes of a report made by hand


COMPARE = KINDS["compare"]


texts = partial(pages.texts, more=("info",))


FULL = Spec("dummy", "bf16", ("fp32", "int8"), "0 1 & 1=0 é", 77, 2, None)


CORPUS = Spec(
    "dummy", precisions=("bf16",), context=8, stride=4, texts=(NamedText("a.txt", "0 1"), NamedText("b *c*.txt", "1"))
)


JUDGED = Spec("dummy", precisions=("bf16", "int4", "nf4"))


def section(name: str) -> dict[str, str]:
    """What a session knows of a visitor who has opened this section."""
    return {"section": next(title for title in SECTIONS if title.endswith(name))}
