"""What lies in memory: loading and its cache, skeletons, footprints, and one forward's inputs and outputs."""

from qfund.precisions.backends.postponed import import_transformers

import_transformers()
