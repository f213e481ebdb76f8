"""qfund's dashboard: ``streamlit run app.py`` serves it, and runs this file for every visitor."""

import streamlit as st
from starlette.middleware import Middleware

from qfund.ui import server

if server.running_script():
    from qfund.ui import shell

    shell.run()
else:
    from qfund.ui.server import api, metrics

    # The first sees a request first.
    middleware = [*server.MIDDLEWARE, Middleware(metrics.Private)]
    app = st.App(__file__, routes=[metrics.ROUTE, *api.ROUTES], middleware=middleware, lifespan=server.lifespan)
