"""The block types of GGUF files, rounded as llama-quantize rounds them, and its choice of one for each tensor."""
