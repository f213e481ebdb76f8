"""What rounding the KV cache costs."""

from qfund.features.kv import view
from qfund.ui import shell

shell.begin("kv")
view.draw()
