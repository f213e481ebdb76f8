import copy

import torch

from qfund.models.dummy import DummyModel

model = DummyModel.from_pretrained("models/dummy", dtype=torch.float32)
second = model  # another name for the same model
returned = model.to(torch.bfloat16)
print(f"cast in place: {returned is model}, the second name is {second.dtype}")

model = DummyModel.from_pretrained("models/dummy", dtype=torch.float32)
second = copy.deepcopy(model).to(torch.bfloat16)
print(f"with a copy: {model.dtype} beside {second.dtype}")
