import torch

from qfund.models.dummy import DummyModel

model = DummyModel.from_pretrained("models/dummy", dtype=torch.float32)
layers = [module for module in model.modules() if isinstance(module, torch.nn.Linear)]
weight = max((layer.weight.detach() for layer in layers), key=torch.numel)

scale = weight.abs().amax(1, keepdim=True) / 127.5  # one for each row
codes = (weight / scale).round().clamp(-128, 127).to(torch.int8)
integers = codes * scale
floats = weight.to(torch.bfloat16).float()

off = (integers - weight).abs()
print(f"INT8: at most {(off / scale).max().item():.3f} steps off, whatever the weight")
print(f"BF16: at most {((floats - weight).abs() / weight.abs()).max().item():.5f} of the weight off")
small = weight.abs() < weight.abs().median()
for name, found in (("INT8", integers), ("BF16", floats)):
    error = (found - weight).abs()
    means = error[small].mean().item(), error[~small].mean().item()
    print(f"{name}: mean error {means[0]:.1e} of the smaller half, {means[1]:.1e} of the larger half")
