import torch

from qfund.models.dummy import DummyModel

model = DummyModel.from_pretrained("models/dummy", dtype=torch.float32)
for name, parameter in model.named_parameters():
    print(f"{name} is loaded in {parameter.dtype}")
for name, buffer in model.named_buffers():
    print(f"{name}, a buffer, in {buffer.dtype}")
