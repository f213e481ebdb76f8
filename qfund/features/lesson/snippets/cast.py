import copy

import torch

from qfund.models.dummy import DummyModel

model = DummyModel.from_pretrained("models/dummy", dtype=torch.float32)
cast = copy.deepcopy(model).to(torch.bfloat16)
pairs = list(zip(model.parameters(), cast.parameters(), strict=True))
rounded = sum((before != after.float()).sum().item() for before, after in pairs)
total = sum(before.numel() for before, _ in pairs)
print(f"{rounded:,} of {total:,} weights were rounded")
back = cast.to(torch.float32)
lost = sum((before != after).sum().item() for before, after in zip(model.parameters(), back.parameters(), strict=True))
print(f"{lost:,} are still not what they were after a cast back")
