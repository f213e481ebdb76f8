import torch

from qfund.models.dummy import DummyModel

direct = DummyModel.from_pretrained("models/dummy", dtype=torch.bfloat16)
print(f"direct: {direct.get_memory_footprint():,} bytes are all there ever were")

whole = DummyModel.from_pretrained("models/dummy", dtype=torch.float32)
first = whole.get_memory_footprint()
cast = whole.to(torch.bfloat16)
print(f"cast afterwards: {first:,} bytes had to fit, for {cast.get_memory_footprint():,}")

pairs = zip(direct.parameters(), cast.parameters(), strict=True)
print(f"the same weights, bit for bit: {all(torch.equal(one, other) for one, other in pairs)}")
buffers = zip(direct.named_buffers(), cast.buffers(), strict=True)
print(f"buffers that differ: {[name for (name, one), other in buffers if one.dtype != other.dtype]}")
