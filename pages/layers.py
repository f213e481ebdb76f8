"""Which modules pay for the bits, and a recipe."""

from qfund.features.layers.view import page
from qfund.ui import shell

shell.begin("layers")
page.draw()
