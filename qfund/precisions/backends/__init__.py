"""The libraries that really store and really run low precision. No torch: converters are imported when used."""

from qfund.precisions.backends.table import (
    BACKENDS,
    NOT_INCLUDED,
    Backend,
    Implementation,
    implementations,
    quiet,
    unavailable,
)

__all__ = ["BACKENDS", "NOT_INCLUDED", "Backend", "Implementation", "implementations", "quiet", "unavailable"]
