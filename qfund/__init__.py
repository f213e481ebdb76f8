"""qfund shows what lower precision costs a neural network, and what it buys.

>>> import qfund
>>> report = qfund.compare("pydoc-llama", ["bf16", "int8"])
>>> report.results[0].fidelity["kl_mean"]
"""

from typing import TYPE_CHECKING

from qfund.core import errors
from qfund.version import VERSION as __version__

if TYPE_CHECKING:
    from qfund.api import compare, sweep
    from qfund.features.compare.request.margin import Margin
    from qfund.features.compare.request.report import Report, to_json
    from qfund.features.compare.request.spec import Spec
else:  # imported when they are used: `qfund --help` needs none of them
    _HOMES = {
        "Margin": "qfund.features.compare.request.margin:Margin",
        "Report": "qfund.features.compare.request.report:Report",
        "Spec": "qfund.features.compare.request.spec:Spec",
        "compare": "qfund.api:compare",
        "sweep": "qfund.api:sweep",
        "to_json": "qfund.features.compare.request.report:to_json",
    }

    def __getattr__(name):
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from qfund.core.feature import lazily

        return lazily(_HOMES[name])

    def __dir__():
        return __all__


__all__ = ["Margin", "Report", "Spec", "__version__", "compare", "errors", "sweep", "to_json"]
