"""The lesson's nine questions, each answered by a measurement of the model chosen."""

from qfund.features.lesson.view import page
from qfund.ui import shell

shell.begin("lesson")
page.draw()
