"""The streamed pass: several precisions of one model in one walk over its checkpoint, a few blocks in memory.

Each precision's own, unmodified transformers forward runs on a *frame*: the model as ``from_pretrained`` builds it,
with its weights on the meta device. Before every *unit* (a layer of the model, its embeddings, its head) a forward
stops and waits. When all wait before the same unit, its weights are read once, turned into each precision in turn,
every batch goes through, and the weights are dropped.
"""
