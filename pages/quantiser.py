"""Linear quantisation by hand: a matrix, a scale, a zero-point, and what they make of it."""

from qfund.features.quantizer.view import page
from qfund.ui import shell

shell.begin("quantizer")
page.draw()
