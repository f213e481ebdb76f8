"""What is planned for a job, beside what another reader finds in the same files."""

import pytest
from safetensors.numpy import load_file

from qfund.checkpoints import catalog, needs
from qfund.core.errors import UnknownName
from qfund.features.compare.request.spec import Spec
from qfund.features.outputs.request.generation import GenerationRequest

GIB = 1024**3


def elements() -> dict[str, int]:
    found = load_file(catalog.CATALOG["pydoc-llama"].folder / "model.safetensors")
    return {name: values.size for name, values in found.items()}


def test_a_walk_is_given_its_largest_part_three_times_and_a_whole_model_the_reference_and_a_candidate(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = elements()
    assert needs.streamed(Spec("pydoc-llama")) == needs.whole(Spec("pydoc-llama")) == 2 * GIB  # the least
    monkeypatch.setattr(needs, "LEAST", 0)
    layer = sum(count for name, count in found.items() if name.startswith("model.layers.0."))
    largest = max(layer, *(count for name, count in found.items() if ".layers." not in name))
    assert needs.streamed(Spec("pydoc-llama")) == int(largest * 12 / 0.6)
    both = GenerationRequest("pydoc-llama", reference="fp32", precisions=("bf16",))
    assert needs.whole(both) == int(sum(found.values()) * (4 + 2) / 0.6)
    coded = GenerationRequest("pydoc-llama", reference="bf16", precisions=("bf16", "int4"))
    assert needs.whole(coded) >= int(sum(found.values()) * (2 + 2) / 0.6)


def test_what_is_not_there_is_said() -> None:
    with pytest.raises(UnknownName):
        needs.whole(Spec("no-such-model"))
