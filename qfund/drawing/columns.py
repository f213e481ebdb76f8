"""Titles of columns that several features show."""

#: Two figures that are easily taken for each other: of what was quantised alone, and of the model as a whole.
QUANTIZED_BITS, MODEL_BITS = "Bits per quantised weight", "Bits per parameter"
