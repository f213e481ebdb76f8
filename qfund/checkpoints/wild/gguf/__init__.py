"""GGUF, llama.cpp's files: headers by a reader that trusts nothing, numbers by the ``gguf`` package."""
