import torch

from qfund.models.dummy import DummyModel

ids = torch.tensor([[1, 0], [0, 1]])
with torch.no_grad():
    expected = DummyModel.from_pretrained("models/dummy", dtype=torch.float32)(input_ids=ids).logits
    found = DummyModel.from_pretrained("models/dummy", dtype=torch.bfloat16)(input_ids=ids).logits.float()
difference = (expected - found).abs()
print(f"mean difference {difference.mean().item():.4e}, largest {difference.max().item():.4e}")
same = (expected.argmax(-1) == found.argmax(-1)).float().mean().item()
print(f"the same likeliest token at {same:.0%} of the positions")
