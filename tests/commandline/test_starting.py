"""What a process imports before it answers: each is a part of the time that somebody waits."""

import subprocess
import sys

import pytest

#: What a comparison of a text model has no use for, however much of it transformers would import.
UNUSED = (
    *(
        "accelerate",
        "matplotlib",
        "pandas",
        "plotly",
        "pyarrow",
        "scipy",
        "sklearn",
        "sqlalchemy",
        "streamlit",
        "sympy",
    ),
    *("torch._dynamo", "torch._inductor", "torch.distributed.checkpoint", "torch.distributed.fsdp"),
    *("torch.distributed.tensor", "torchao", "torchvision", "transformers.models.falcon.modeling_falcon"),
)
HEAVY = (*UNUSED, "torch", "transformers", "tokenizers", "numpy")


def imported(code: str, among: tuple[str, ...]) -> set[str]:
    """Which of these modules a fresh process has imported when it has run ``code``."""
    after = f"{code}\nimport sys; print('\\n', *({set(among)!r} & sys.modules.keys()), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", after], capture_output=True, text=True, check=True)
    return set(done.stderr.split("\n")[-2].split())


def command(*words: str) -> str:
    """Runs ``qfund`` in the process."""
    return f"import sys, contextlib\nfrom qfund.cli import main\nsys.argv = {['qfund', *words]}\n" + (
        "with contextlib.suppress(SystemExit):\n    main()"
    )


@pytest.mark.parametrize("words", [("--help",), ("--version",)])
def test_help_imports_nothing_that_computes(words: tuple[str, ...]) -> None:
    assert imported(command(*words), (*HEAVY, "msgspec", "importlib.metadata")) <= {"msgspec"}


def test_a_plan_from_headers_imports_nothing_that_computes() -> None:
    assert imported(command("plan", "pydoc-llama", "--headers"), HEAVY) == set()


def test_a_comparison_imports_what_it_needs_alone() -> None:
    assert imported(command("compare", "dummy", "--precision", "bf16", "int8", "--no-store"), UNUSED) == set()


def test_what_was_put_off_is_there_when_it_is_used() -> None:
    code = (
        "import qfund.cli, qfund.models, sys\n"
        "assert 'scipy' not in sys.modules\n"
        "from transformers.loss import loss_for_object_detection as loss\n"
        "assert loss.linear_sum_assignment([[1.0, 0.0], [0.0, 1.0]])[1].tolist() == [1, 0]\n"
        "from transformers.generation.continuous_batching.cache import PagedAttentionCache\n"
        "import torch, torch._dynamo, scipy, torchao\n"
        "from torch._dynamo._trace_wrapped_higher_order_op import TransformGetItemToIndex\n"
        "from transformers import masking_utils\n"
        "with masking_utils.TransformGetItemToIndex(): pass\n"
        "compiled = torch.compile(lambda x: x + 1, backend='eager')\n"
        "assert compiled(torch.ones(2)).tolist() == [2.0, 2.0]\n"
    )
    assert {"scipy", "torchao", "torch._dynamo"} <= imported(code, UNUSED)


def test_in_a_programme_of_somebody_else_transformers_is_as_it_is() -> None:
    code = (
        "import transformers.utils\n"
        "before = transformers.utils.is_torch_distributed_available\n"
        "import qfund.models, transformers.modeling_utils\n"
        "assert transformers.utils.is_torch_distributed_available is before\n"
    )
    assert {"torch._dynamo", "torchao"} <= imported(code, UNUSED)
