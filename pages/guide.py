"""What kinds of precision there are, what each metric means, and how to read the numbers."""

from qfund.features.guide import view
from qfund.ui import shell

shell.begin("guide")
view.draw()
