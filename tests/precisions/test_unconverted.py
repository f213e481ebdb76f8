"""What of the matrices a quantiser leaves is said with its bytes, where it is more than a few per cent."""

from qfund.core.tensors import LeftModule, TensorRow
from qfund.features.compare.request.report import PrecisionResult
from qfund.features.compare.words.candidates import memory_phrase
from qfund.features.memory.request.advice import choose
from qfund.features.memory.request.fits import Amount, Row, Weights, Workload
from qfund.precisions.unconverted import unconverted

EXPERTS = LeftModule("layers.0.experts", "Experts", "stacked experts: they multiply by themselves, so no")
HEAD = LeftModule("lm_head", "Linear", "the output head: errors there go straight to the logits")


def tensor(name: str, shape: tuple[int, ...], dtype: str = "float32", logical: str = "float32") -> TensorRow:
    count = 1
    for size in shape:
        count *= size
    size = count if dtype == "int8" else 4 * count
    return TensorRow(name, shape, dtype, dtype, logical, count, size, "weight")


CODES = tensor("layers.0.proj.weight_data", (8, 16), "int8")
HEADS = tensor("lm_head.weight", (1000, 16))


def test_the_share_is_of_the_bytes_of_all_matrices_as_floats() -> None:
    rows = [CODES, HEADS, tensor("layers.0.experts.down", (3, 8, 16))]
    found = unconverted(rows, [EXPERTS, HEAD])
    assert found is not None
    assert (found.bytes, found.share, found.others) == (1536, 0.75, 0)
    assert found.phrase == (
        "75 % of the bytes of its matrices (1.5 KiB) stay in FP32: layers.0.experts (1.5 KiB: stacked experts: they "
        "multiply by themselves)"
    )


def test_heads_embeddings_tables_and_little_are_not_worth_a_word() -> None:
    table = LeftModule("vision", "Embeddings", "no Linear layer: it uses its own position [1, 50, 16] directly")
    assert unconverted([CODES, HEADS, tensor("vision.position", (1, 50, 16))], [HEAD, table]) is None
    assert unconverted([tensor("layers.0.experts.down", (3, 8, 16))], [EXPERTS]) is None  # nothing was converted
    few = [tensor("a.weight_data", (100, 100), "int8"), tensor("layers.0.experts.down", (2, 4, 4))]
    assert unconverted(few, [EXPERTS]) is None


def test_a_candidate_says_so_in_its_first_sentence() -> None:
    rows = (CODES, tensor("layers.0.experts.down", (3, 8, 16)))

    def result(precision: str, count: int, *rows: TensorRow, left: tuple[LeftModule, ...] = ()) -> PrecisionResult:
        return PrecisionResult(precision, count, count, count, {}, {}, 1, 0, {}, 0, 0.1, rows, (), left)

    said = memory_phrase(result("int8", 1664, *rows, left=(EXPERTS,)), result("fp32", 2048))
    assert said.startswith("81.2 % of the memory (1.62 KiB instead of 2 KiB), as 75 % of the bytes of its matrices")


def test_the_choice_of_a_precision_says_so() -> None:
    nothing = Amount(0, "exact")
    row = Row("int8", nothing, nothing, nothing, nothing, nothing, nothing, True, 0, 1)
    weights = [Weights("int8", 1, {}, 0, "75 % of the bytes of its matrices stay in FP32")]
    chosen = choose([row], Workload(1), {}, weights)
    assert "to spare; in it 75 % of the bytes of its matrices stay in FP32." in chosen.sentence
    refused = choose([Row("int8", *[nothing] * 6, False, -1, 0)], Workload(1), {}, weights)
    assert refused.sentence.endswith("; in it 75 % of the bytes of its matrices stay in FP32.")
