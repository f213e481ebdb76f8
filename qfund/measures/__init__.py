"""One file per measure: each turns a ``Spec`` into plain data."""
