import copy
import statistics
import time

import torch
from torchao.quantization import Int8WeightOnlyConfig, quantize_

from qfund.models.counting import stored_bytes
from qfund.models.dummy import DummyModel

model = DummyModel.from_pretrained("models/dummy", dtype=torch.float32).eval()
small = copy.deepcopy(model)
quantize_(small, Int8WeightOnlyConfig(), lambda part, name: isinstance(part, torch.nn.Linear) and "head" not in name)
before, after = stored_bytes(model), stored_bytes(small)  # get_memory_footprint() does not see into torchao's tensors
print(f"{before:,} bytes, then {after:,}: {before / after:.2f} times smaller")

ids, ratios = torch.tensor([[1, 0], [0, 1]]), []
for _ in range(15):
    seconds = []
    for one in (model, small):
        started = time.perf_counter()
        with torch.no_grad():
            one(input_ids=ids)
        seconds.append(time.perf_counter() - started)
    ratios.append(seconds[1] / seconds[0])
print(f"INT8 takes {statistics.median(ratios):.2f} times as long as FP32")
