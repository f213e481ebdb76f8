"""How fast a model reads and writes in each precision, and why some are slower than the reference."""

from qfund.core.feature import Feature, Kind, Page

_AT = "qfund.features.speed"

FEATURE = Feature(
    "speed",
    page=Page(
        "speed",
        "Speed",
        "speed",
        "How fast a model reads a prompt and writes in each precision on this machine, and why some are slower.",
    ),
    kinds=(
        Kind(
            "speed",
            request=f"{_AT}.request.speed:SpeedRequest",
            result=f"{_AT}.request.speed:Speed",
            measure=f"{_AT}.measure.speed:speed",
            check=f"{_AT}.request.speed:checked",
            identify=f"{_AT}.request.speed:identity",
        ),
    ),
    commands={"speed": "time reading and writing in every precision and backend, and say why some are slower"},
)
