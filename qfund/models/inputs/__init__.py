"""Text and pictures → batches of tensors that a model's forward takes, with the tokens that it should predict."""

from qfund.models.inputs.answers import Write
from qfund.models.inputs.batch import Batch, Prepared, decoder_start
from qfund.models.inputs.opening import open_tokenizer
from qfund.models.inputs.pixels import pixel_values
from qfund.models.inputs.preparation import prepare
from qfund.models.inputs.probes import probe
from qfund.models.inputs.tokenizer import Reader, position_limits, reader

__all__ = [
    "Batch",
    "Prepared",
    "Reader",
    "Write",
    "decoder_start",
    "open_tokenizer",
    "pixel_values",
    "position_limits",
    "prepare",
    "probe",
    "reader",
]
