"""All comparisons that are there, ranked, and a list of models measured as far as it is not."""

from qfund.features.sweep.view import page
from qfund.ui import shell

shell.begin("sweep")
page.draw()
