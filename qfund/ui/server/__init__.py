"""What the dashboard's server does beside Streamlit's: whom it answers, what it lets a browser do, what it sends."""

import threading
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from starlette.middleware import Middleware
from streamlit.runtime.scriptrunner import get_script_run_ctx

from qfund.core.feature import lazily
from qfund.ui.server.guard import Guard
from qfund.ui.server.pages import Pages
from qfund.ui.server.policy import Policy
from qfund.ui.server.uploads import Uploads


def running_script() -> bool:
    """Whether a visitor's session runs the file that asks, rather than the server that is starting."""
    return get_script_run_ctx(suppress_warning=True) is not None


@asynccontextmanager
async def lifespan(app: object) -> AsyncGenerator[None]:
    """Beside the first visitor, or without one: go on with the jobs that a server before this one has left."""
    threading.Thread(target=lambda: lazily("qfund.ui.services:jobs")(), name="qfund-resume", daemon=True).start()
    yield


#: The first sees a request first.
MIDDLEWARE = [Middleware(Policy), Middleware(Guard), Middleware(Uploads), Middleware(Pages)]
