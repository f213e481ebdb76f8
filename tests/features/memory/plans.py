"""A small plan, its headers, what fits and load peaks, made by hand so that every sum can be checked by head.

A model of 1,000 weights in a linear layer, 200 in embeddings that the head is tied to, and 10 in a norm; 40 bytes of
buffers. The file holds all of it in fp32, and the head once more.
"""

from qfund.core.environment import Environment
from qfund.core.tensors import DtypeShare
from qfund.features.memory.request.advice import choose
from qfund.features.memory.request.fits import Activations, Fits, FitsRequest, Phase, Shape, Weights, Workload
from qfund.features.memory.request.kv_cache import CacheLayers
from qfund.features.memory.request.load_peak import Curve, Inference, LoadPeakRequest, LoadPeaks, Sampled, WayPeak
from qfund.features.memory.request.load_peak import Phase as LoadPhase
from qfund.features.memory.request.plan import PARTS, HeaderPlan, Plan, PlanEntry, PlannedModule, StoredModule
from qfund.features.memory.request.sizing import rows

LINEAR, EMBEDDINGS, NORM, BUFFERS = 1000, 200, 10, 40
ALL = LINEAR + EMBEDDINGS + NORM
STORED = 4 * (ALL + EMBEDDINGS)


def _entry(name: str, dtype: str, size: int, codes: int = 0, scales: int = 0) -> PlanEntry:
    parts = dict.fromkeys(PARTS, 0) | {
        "quantised": codes,
        "layers": 0 if codes else size * LINEAR,
        "embeddings": size * EMBEDDINGS,
        "norms": size * NORM,
        "scales": scales,
        "buffers": BUFFERS,
    }
    total = sum(parts.values())
    rest = DtypeShare(ALL - (LINEAR if codes else 0), total - codes - scales - BUFFERS)
    dtypes = {dtype: rest} | ({"int8": DtypeShare(LINEAR, codes)} if codes else {})
    layer = codes + scales if codes else size * LINEAR
    return PlanEntry(
        precision=name,
        predicted_bytes=total,
        parts=parts,
        dtypes=dtypes,
        ratio=total / (4 * ALL + BUFFERS),
        bits_per_weight=8 * (codes + scales) / LINEAR if codes else None,
        bits_per_parameter=8 * total / ALL,
        module_bytes=(size * EMBEDDINGS, layer, size * NORM, BUFFERS, 0),
        module_dtypes=(dtype, "int8" if codes else dtype, dtype, "float32", dtype),
    )


MODULES = (
    PlannedModule("model.embed", "Embedding", EMBEDDINGS),
    PlannedModule("model.layers.0.proj", "Linear", LINEAR),
    PlannedModule("model.norm", "RMSNorm", NORM),
    PlannedModule("model.rotary", "Rotary", 0),
    PlannedModule("lm_head", "Linear", 0),
)
PLAN = Plan(
    model="pydoc-llama",
    revision=None,
    model_id="headers:1",
    architecture="LlamaForCausalLM",
    parameters=ALL,
    stored_bytes=STORED,
    fp32_bytes=4 * ALL + BUFFERS,
    entries=(
        _entry("fp32", "float32", 4),
        _entry("bf16", "bfloat16", 2),
        _entry("int8_bf16", "bfloat16", 2, LINEAR, 16),
    ),
    not_planned=(),
    modules=MODULES,
    notes=("lm_head.weight is stored although it is tied.",),
)
HEADERS = HeaderPlan(
    model="pydoc-llama",
    revision=None,
    model_id="headers:1",
    architecture="LlamaForCausalLM",
    stored_bytes=STORED,
    elements=ALL + EMBEDDINGS,
    dtypes={"F32": DtypeShare(ALL + EMBEDDINGS, STORED)},
    modules=(
        StoredModule("model.embed", "F32", EMBEDDINGS, 4 * EMBEDDINGS),
        StoredModule("model.layers.0.proj", "F32", LINEAR, 4 * LINEAR),
        StoredModule("model.norm", "F32", NORM, 4 * NORM),
        StoredModule("lm_head", "F32", EMBEDDINGS, 4 * EMBEDDINGS),
    ),
    cast_bytes={"fp32": STORED, "bf16": STORED // 2},
    notes=("From headers alone: stored parameters, not buffers.",),
)

_FORWARD = (Phase(100.0, 0.0),)
SHAPE = Shape(
    cache=(CacheLayers("full attention", 2, 8, 8),),
    states=(),
    activations=(
        Activations("float32", _FORWARD, _FORWARD, "traced"),
        Activations("bfloat16", (Phase(50.0, 0.0),), (Phase(50.0, 0.0),), "traced"),
    ),
    trained=4096,
    checked=True,
)
WEIGHTS = tuple(
    Weights(
        entry.precision,
        entry.predicted_bytes,
        {
            "weights": entry.predicted_bytes - entry.parts["scales"] - BUFFERS,
            "scales": entry.parts["scales"],
            "buffers": BUFFERS,
        },
    )
    for entry in PLAN.entries
)


def make_fits(request: FitsRequest) -> Fits:
    found = rows(SHAPE, WEIGHTS, request.workload)
    return Fits(
        qfund="0",
        request=request,
        architecture="LlamaForCausalLM",
        task="causal language model",
        shape=SHAPE,
        weights=WEIGHTS,
        stored={"F32": ALL + EMBEDDINGS},
        rows=found,
        choice=choose(found, request.workload, {"F32": ALL + EMBEDDINGS}),
        refused={},
        warnings=(),
        notes=("A note.",),
    )


GIB = Workload(2**30)

#: After a load that settled at 2500.
FORWARD = Inference(
    tokens=128,
    pictures=0,
    batch=1,
    need=2900,
    above_settled=400,
    stays=70,
    multiple=2900 / (4 * ALL),
    seconds=0.1,
    samples=9,
    largest_gap=0.01,
)


def way(precision: str, name: str, need: int, settled: int, rss: int, inference: Inference | None = None) -> WayPeak:
    weights = 4 * ALL
    curve = Curve((0.0, 0.1, 0.2), (0, need, settled), (0, need, settled), (0, rss, settled))
    multiples = {"need": need, "settled": settled, "private_peak": need, "rss_peak": rss}
    sampled = Sampled(
        need=need,
        settled=settled,
        private_peak=need,
        rss_peak=rss,
        multiples={key: count / weights for key, count in multiples.items()},
        baseline=0,
        samples=3,
        largest_gap=0.1,
        phases=(
            LoadPhase("start", 0.0, 0.02, 0, 0),
            LoadPhase("reading", 0.02, 0.1, need, 0),
            LoadPhase("ready", 0.1, 0.2, settled, 0),
        ),
        curve=curve,
    )
    return WayPeak(precision, name, 0.1, settled, settled, (need,), sampled, inference=inference)


def make_peaks(request: LoadPeakRequest) -> LoadPeaks:
    return LoadPeaks(
        qfund="0",
        created="2026-11-23T18:00:00+00:00",
        request=request,
        environment=Environment({}, "3.11", "Linux", "cpu", "a CPU", 2, "sha256:1"),
        architecture="LlamaForCausalLM",
        weights_bytes=4 * ALL,
        stored_bytes=STORED,
        reference=way("fp32", "direct", 4 * ALL, 4 * ALL, ALL),
        ways=(
            way("bf16", "cast", 4 * ALL, 2500, 6000),
            way("bf16", "direct", 2600, 2500, 7000, FORWARD),
            WayPeak("bf16", "deepcopy", problem="It died."),
        ),
        notes=("So little that a few MiB show.",),
    )
