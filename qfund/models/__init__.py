"""What lies in memory: loading and its cache, skeletons, footprints, and one forward's inputs and outputs."""

from qfund.precisions.backends import postponed

if postponed.own_process():
    postponed.import_transformers()
