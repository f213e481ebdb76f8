"""What holds for the page of every feature."""

import pytest

from qfund.features import FEATURES
from tests.ui.pages import Open


@pytest.mark.parametrize("page", [f"pages/{row.page.path}.py" for row in FEATURES if row.page])
@pytest.mark.usefixtures("cold")
def test_a_page_that_a_fresh_server_runs_by_itself_draws_itself_inside_the_app(opened: Open, page: str) -> None:
    at = opened(page=page)
    assert len(at.title) == 1
