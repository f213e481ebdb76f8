"""What a person does with qfund, a folder each; navigation, jobs, commands and half the tests iterate ``FEATURES``."""

from qfund.core.feature import Feature
from qfund.features import (
    audit,
    captions,
    compare,
    formats,
    guide,
    kv,
    layers,
    lesson,
    memory,
    outputs,
    precisions,
    quantizer,
    saved,
    speed,
    sweep,
)

#: In the order of the navigation.
FEATURES: tuple[Feature, ...] = tuple(
    room.FEATURE
    for room in (
        compare,
        memory,
        audit,
        outputs,
        captions,
        layers,
        speed,
        kv,
        precisions,
        sweep,
        saved,
        lesson,
        quantizer,
        formats,
        guide,
    )
)
