"""Number formats: bits and what they stand for, a number in each, what each holds, and where real weights fall."""

from qfund.features.formats.view import page
from qfund.ui import shell

shell.begin("formats")
page.draw()
