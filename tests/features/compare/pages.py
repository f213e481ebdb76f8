"""Comparisons that tests of pages ask for, and what a visitor reads of them."""

from functools import partial
from typing import Any

from streamlit.testing.v1 import AppTest

from qfund.engine.jobs import Job
from qfund.engine.kinds import KINDS
from qfund.features.compare.link import SECTIONS
from qfund.features.compare.request.spec import Spec
from qfund.features.memory.request.fits import FitsRequest
from qfund.inputs.texts import NamedText
from tests.ui import pages

#: What the first page says of a report made by hand, in which nothing is decided.
SHOWN = "Not decided yet: BF16, 960\u00a0B"


COMPARE = KINDS["compare"]


texts = partial(pages.texts, more=("info", "success"))


FULL = Spec("dummy", "bf16", ("fp32", "int8"), "0 1 & 1=0 é", 77, 2, None)


CORPUS = Spec(
    "dummy", precisions=("bf16",), context=8, stride=4, texts=(NamedText("a.txt", "0 1"), NamedText("b *c*.txt", "1"))
)


JUDGED = Spec("dummy", precisions=("bf16", "int4", "nf4"))


def section(name: str) -> dict[str, str]:
    """What a session knows of a visitor who has opened this section."""
    assert name in SECTIONS.values()
    return {"section": name}


class FakeJobs(pages.FakeJobs):
    """What a comparison's page asks about memory, which is worked out within a second, is no job that was started."""

    def submit(self, request: Any) -> Job:
        return self.answer(request) if isinstance(request, FitsRequest) else super().submit(request)


def board(at: AppTest) -> str:
    """What is drawn as HTML: the ranked candidates among it."""
    return "\n".join(str(html.value) for html in at.html)
