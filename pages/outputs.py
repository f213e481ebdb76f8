"""What comes out: the same prompt, sentence or picture in every precision, side by side."""

from qfund.features.outputs.view import page
from qfund.ui import shell

shell.begin("outputs")
page.draw()
