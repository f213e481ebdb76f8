"""qfund's dashboard: ``streamlit run app.py``."""

from qfund.ui import shell

shell.run()
