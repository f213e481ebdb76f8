"""How much memory a model takes in every precision: foretold, measured while loading, and whether it fits."""

from qfund.features.memory.view import page
from qfund.ui import shell

shell.begin("memory")
page.draw()
