import torch

from qfund.models.dummy import DummyModel

ids = torch.tensor([[1, 0], [0, 1]])
for dtype in (torch.float32, torch.bfloat16, torch.float16):
    model = DummyModel.from_pretrained("models/dummy", dtype=dtype)
    with torch.no_grad():
        logits = model(input_ids=ids).logits
    print(f"{logits.dtype}: {logits[0, 0, :2].tolist()}")
