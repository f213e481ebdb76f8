"""Whether a model fits: its size in every precision, what running it takes, and the peak of loading it."""

from qfund.core.feature import Feature, Kind, Page

FEATURE = Feature(
    "memory",
    page=Page(
        "memory",
        "Memory",
        "memory",
        "What a model takes in every precision, before a weight is loaded, and whether it fits.",
    ),
    kinds=(
        Kind(
            "plan",
            request="qfund.features.memory.request.plan:PlanRequest",
            result="qfund.features.memory.request.plan:Plan",
            measure="qfund.features.memory.measure.plan:plan",
            check="qfund.features.memory.request.plan:checked",
            at_once="qfund.features.memory.request.plan:from_headers",
            consistent="qfund.features.memory.request.invariants:consistent_plan",
            quick=True,
            elsewhere="qfund.features.memory.request.headers:of",
        ),
        Kind(
            "headers",
            request="qfund.features.memory.request.headers:HeadersRequest",
            result="qfund.features.memory.request.plan:HeaderPlan",
            measure="qfund.features.memory.request.headers:read",
            check="qfund.features.memory.request.headers:checked",
            quick=True,
        ),
        Kind(
            "fits",
            request="qfund.features.memory.request.fits:FitsRequest",
            result="qfund.features.memory.request.fits:Fits",
            measure="qfund.features.memory.measure.fits:fits",
            check="qfund.features.memory.request.fits:checked",
            consistent="qfund.features.memory.request.invariants:consistent_fits",
            schema=2,
            quick=True,
        ),
        Kind(
            "load-peak",
            request="qfund.features.memory.request.load_peak:LoadPeakRequest",
            result="qfund.features.memory.request.load_peak:LoadPeaks",
            measure="qfund.features.memory.measure.load_peak:load_peak",
            check="qfund.features.memory.request.load_peak:checked",
            schema=3,
        ),
    ),
    commands={
        "plan": "predict a model's footprint in every precision, without its weights",
        "fits": "say which precisions of a model fit in a memory budget, and the longest context",
        "load-peak": "measure the memory that each way of loading a model needs",
    },
)
