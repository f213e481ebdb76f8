"""What an error is of, whoever raised it."""

import errno

import pytest

from qfund.core.errors import OutOfBudget, out_of_memory


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory: 8 bytes"),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes."),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    ],
)
def test_memory_that_runs_out_is_known_by_what_torch_and_its_libraries_say(error: Exception) -> None:
    assert out_of_memory(error)


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
