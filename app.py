"""qfund's dashboard: ``streamlit run app.py`` serves it, and runs this file for every visitor."""

import streamlit as st

from qfund.ui import server

if server.running_script():
    from qfund.ui import shell

    shell.run()
else:
    app = st.App(__file__, middleware=server.MIDDLEWARE, lifespan=server.lifespan)
