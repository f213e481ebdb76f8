"""Every precision: what it is, whether it runs here, and what it did to the example model."""

from qfund.features.precisions import view
from qfund.ui import shell

shell.begin("precisions")
view.draw()
