"""Formats of safetensors that cannot be read here: why, and what would make it possible."""

from qfund.core.errors import UnsupportedModel

_CODE_BOOKS = "its codes are entries of trained code books"
_ROTATED = "its weights are stored rotated by Hadamard matrices"
_GPU = "its codes lie as one GPU kernel wants them"
_NO_REFERENCE = "no published description of its layout could be held against a decoder here"

#: Method → what people call it, and why not.
REFUSED = {
    "aqlm": ("AQLM", f"{_CODE_BOOKS}, one sum of several for each group"),
    "bitnet": ("BitNet", "its activations are rounded too, and the model was trained so: it has no original in floats"),
    "eetq": ("EETQ", _GPU),
    "exl2": ("EXL2", f"{_GPU}, permuted, in widths that change within a matrix"),
    "exl3": ("EXL3", f"its codes are steps of a trellis, and {_ROTATED}"),
    "fouroversix": ("Four Over Six", _GPU),
    "fp_quant": ("FP-Quant", _ROTATED),
    "higgs": ("HIGGS", f"{_ROTATED}, and {_CODE_BOOKS}"),
    "mxfp8": ("MXFP8", _NO_REFERENCE),
    "nvfp4": ("NVFP4 of transformers", _GPU),
    "quanto": ("Quanto", "transformers does not save it in safetensors"),
    "quark": ("Quark", _NO_REFERENCE),
    "quip": ("QuIP#", f"{_ROTATED}, and {_CODE_BOOKS}"),
    "quip_sharp": ("QuIP#", f"{_ROTATED}, and {_CODE_BOOKS}"),
    "sinq": ("SINQ", _NO_REFERENCE),
    "spqr": ("SpQR", "its outliers are stored apart, and its scales are quantised again"),
    "vptq": ("VPTQ", f"{_CODE_BOOKS} of vectors"),
}


def refusal(folder: str, method: str) -> UnsupportedModel:
    """Of a folder in a format of the list, or in one that nobody here has heard of."""
    name, why = REFUSED.get(method.lower(), (method[:60], "qfund does not know that format"))
    return UnsupportedModel(
        f"{folder} is quantised as {name}, which qfund cannot unpack: {why}.",
        "Unpack it with the library that made it, save that with save_pretrained() and name that folder; or name one "
        "in GGUF, GPTQ, AWQ, compressed-tensors, FP8, bitsandbytes, torchao, ModelOpt, HQQ or MLX.",
    )
