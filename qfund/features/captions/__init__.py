"""The same pictures, captioned in every precision."""

from qfund.core.feature import Feature, Kind

FEATURE = Feature(
    "captions",
    kinds=(
        Kind(
            "caption",
            request="qfund.features.captions.request:CaptionRequest",
            result="qfund.features.captions.request:Captions",
            measure="qfund.features.captions.measure.caption:caption",
            check="qfund.features.captions.request:checked",
        ),
    ),
    commands={"caption": "caption pictures in every precision, and count the captions that change"},
)
