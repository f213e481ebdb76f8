"""What a person sees: the few pieces that pages share. Nothing here imports torch or transformers."""
