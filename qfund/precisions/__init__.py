"""The one table of precisions, the quantisers that are ours, the libraries that run some of them."""
