"""What an error is of, whoever raised it."""

import errno

import pytest
import torch

from qfund.core.errors import OutOfBudget, exhausted, out_of_memory


@pytest.mark.parametrize(
    ("error", "whose"),
    [
        (MemoryError(), "than there is"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "than there is"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to"), "than there is"),
        (RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes."), "than there is"),
        (RuntimeError("CUDA error: out of memory"), "the GPU has"),
        (RuntimeError("MPS backend out of memory (MPS allocated: 9.06 GB)"), "the GPU has"),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), "the GPU has"),
        (torch.OutOfMemoryError("Tried to allocate 2.00 GiB."), "the GPU has"),
    ],
)
def test_memory_that_runs_out_is_known_by_what_torch_and_its_libraries_say(error: Exception, whose: str) -> None:
    assert out_of_memory(error)
    told = exhausted(error)
    assert told is not None and whose in told.message and told.remedy


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("CUDA error: an illegal memory access was encountered"),
        RuntimeError("Unsupported memory format: channels_last"),
        ValueError("out of memory"),  # no library's
        OSError(errno.ENOENT, "No such file"),
        OutOfBudget("The model needs more memory.", "Choose a smaller one."),  # said already
    ],
)
def test_what_only_speaks_of_memory_is_no_lack_of_it(error: Exception) -> None:
    assert not out_of_memory(error)
    assert exhausted(error) is None
