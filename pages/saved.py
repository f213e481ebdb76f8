"""Earlier comparisons: open one, take it along, or forget it."""

from qfund.features.saved import view
from qfund.ui import shell

shell.begin("saved")
view.draw()
