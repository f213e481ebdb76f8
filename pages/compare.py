"""The first page: choose a model and precisions, compare, and see what lower precision costs and buys."""

from qfund.features.compare.view import page
from qfund.ui import shell

shell.begin("compare")
page.draw()
