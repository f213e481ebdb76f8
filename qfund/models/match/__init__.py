"""What a file holds against what its model has: names, tied tensors, and parts that are not there."""
