"""One block type of GGUF files as a quantiser: what is stored are the bytes of the file."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, quants
from torch import Tensor, nn

from qfund.precisions.quantizers.ggml import iq4, k_types, legacy
from qfund.precisions.quantizers.ggml.k_types import Bytes
from qfund.precisions.quantizers.ggml.search import Floats
from qfund.precisions.quantizers.quantizer import Layout, Shape

#: Weights that are encoded at once: the arrays of a search stay in a core's cache.
_AT_ONCE = 64 * 1024
_ENCODERS: dict[str, Callable[..., Bytes]] = {
    "Q2_K": k_types.q2_k,
    "Q3_K": k_types.q3_k,
    "Q4_K": k_types.q4_k,
    "Q5_K": k_types.q5_k,
    "Q6_K": k_types.q6_k,
    "IQ4_NL": iq4.iq4_nl,
    "IQ4_XS": iq4.iq4_xs,
}
#: What llama-quantize takes where the rows of a tensor are no whole blocks; where they are none of 32 either, F16.
_FALLBACKS = {"Q2_K": "IQ4_NL", "Q3_K": "IQ4_NL", "IQ4_XS": "IQ4_NL", "Q4_K": "Q5_0", "Q5_K": "Q5_1", "Q6_K": "Q8_0"}


@dataclass(frozen=True, slots=True)
class Blocks:
    """A type of ggml: each row of a weight is cut into blocks of 32 or 256, each of so many bytes.

    The bytes are those that llama-quantize writes without an importance matrix; the decoder is that of the ``gguf``
    package. Rows that are no whole blocks take the type that llama-quantize falls back to.

    Attributes:
        name: as in ggml: ``Q4_K``.
    """

    name: str

    @property
    def element(self) -> str:
        return self.name.lower()

    @property
    def size(self) -> int:
        """Weights of a block."""
        return GGML_QUANT_SIZES[self._type][0]

    @property
    def bytes(self) -> int:
        """Of a block."""
        return GGML_QUANT_SIZES[self._type][1]

    @property
    def _type(self) -> GGMLQuantizationType:
        return GGMLQuantizationType[self.name]

    def fitting(self, columns: int) -> "Blocks":
        """The type that rows of so many weights take."""
        if columns % self.size == 0:
            return self
        return Blocks(_FALLBACKS.get(self.name, "F16")).fitting(columns)

    def choose(self, model: nn.Module, names: Sequence[Sequence[str]], columns: Sequence[int]) -> list["Blocks"]:
        return [self.fitting(count) for count in columns]

    def quantize(self, weight: Tensor) -> dict[str, Tensor]:
        """[out, in] → ``data`` [out, bytes of a row] uint8."""
        rows, columns = weight.shape
        kind = self.fitting(columns)
        encode = _ENCODERS.get(kind.name) or partial(quants.quantize, qtype=kind._type)
        values = weight.detach().float().cpu().contiguous().numpy()
        costs = self.costs(values, kind)
        if costs is not None:
            encode = legacy.ENCODERS.get(kind.name, encode)
        given = [part.reshape(-1, kind.size) for part in (values, costs) if part is not None]
        found = np.empty((values.size // kind.size, kind.bytes), np.uint8)
        step = max(1, _AT_ONCE // kind.size)
        with np.errstate(all="ignore"):  # blocks of zeros are divided by zero, and then left out
            for start in range(0, len(found), step):
                found[start : start + step] = encode(*(part[start : start + step] for part in given)).view(np.uint8)
        return {"data": torch.from_numpy(found.reshape(rows, columns // kind.size * kind.bytes)).to(weight.device)}

    def costs(self, values: Floats, kind: "Blocks") -> Floats | None:
        """What an error of each weight costs that is stored in ``kind``; None without an importance matrix."""
        return None

    def dequantize(self, stored: Mapping[str, Tensor], shape: Shape, dtype: torch.dtype) -> Tensor:
        """The float weight [out, in] that the bytes stand for, rounded from float32 to ``dtype``."""
        data = stored["data"]
        if not data.numel():
            return torch.empty(shape, dtype=dtype, device=data.device)
        kind = self.fitting(shape[1])
        values = quants.dequantize(data.cpu().numpy(), kind._type)
        return torch.from_numpy(np.ascontiguousarray(values, np.float32).reshape(shape)).to(data.device, dtype)

    def layout(self, shape: Shape, dtype: torch.dtype) -> dict[str, Layout]:
        rows, columns = shape
        kind = self.fitting(columns)
        return {"data": Layout(torch.uint8, (rows, columns // kind.size * kind.bytes))}

    def by_rows(self, columns: int) -> bool:
        return True

    def saturated(self, weight: Tensor, stored: Mapping[str, Tensor]) -> int:
        """None is counted: where a search clips, it is since the others are better off with that scale."""
        return 0


Q8_0 = Blocks("Q8_0")
Q6_K = Blocks("Q6_K")
Q5_K = Blocks("Q5_K")
Q5_1 = Blocks("Q5_1")
Q5_0 = Blocks("Q5_0")
Q4_K = Blocks("Q4_K")
Q4_1 = Blocks("Q4_1")
Q4_0 = Blocks("Q4_0")
Q3_K = Blocks("Q3_K")
Q2_K = Blocks("Q2_K")
IQ4_NL = Blocks("IQ4_NL")
IQ4_XS = Blocks("IQ4_XS")
