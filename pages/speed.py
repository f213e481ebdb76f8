"""How fast a model reads and writes in each precision, and why some are slower."""

from qfund.features.speed import view
from qfund.ui import shell

shell.begin("speed")
view.draw()
