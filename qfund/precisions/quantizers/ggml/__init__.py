"""The block formats of GGUF files, rounded as llama-quantize rounds them, and llama.cpp's choice of one for each tensor."""
