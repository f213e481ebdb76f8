"""Names, lists and tokens in sentences."""

import pytest

from qfund.drawing import phrases
from qfund.precisions.table import PRECISIONS


def test_many_candidates_are_counted_and_not_listed() -> None:
    assert phrases.against("fp32", ("bf16", "int4")) == "FP32 against BF16 and INT4 g32"
    assert phrases.against("fp32", list(PRECISIONS)[:9]) == "FP32 against 9 precisions"
    assert phrases.together(("bf16", "bf16", "int4")) == "BF16 and INT4 g32"


@pytest.mark.parametrize(
    ("piece", "shown"),
    [(" the", "·the"), ("\n\n", "↵↵"), ("  ", "··"), ("", "∅"), ("a b\t", "a b→"), ("\n  x", "↵  x")],
)
def test_white_space_in_a_token_is_marked(piece: str, shown: str) -> None:
    assert phrases.visible(piece) == shown
