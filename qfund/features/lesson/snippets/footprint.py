import torch

from qfund.models.dummy import DummyModel

sizes = []
for dtype in (torch.float32, torch.bfloat16):
    model = DummyModel.from_pretrained("models/dummy", dtype=dtype)
    sizes.append(model.get_memory_footprint())
    print(f"{dtype}: {sizes[-1]:,} bytes, of them {sum(b.nbytes for b in model.buffers()):,} in buffers")
print(f"ratio {sizes[1] / sizes[0]:.10g}")
