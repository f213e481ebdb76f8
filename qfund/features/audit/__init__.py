"""What is really in a quantised file: every tensor's type, bits and bytes, and how far it is from the original's."""

from qfund.core.feature import Feature, Kind

FEATURE = Feature(
    "audit",
    kinds=(
        Kind(
            "audit",
            request="qfund.features.audit.request:AuditRequest",
            result="qfund.features.audit.request:Audit",
            measure="qfund.features.audit.measure:audit",
            check="qfund.features.audit.request:checked",
            identify="qfund.features.audit.request:identity",
        ),
    ),
    commands={"audit": "say what is in a quantised file, tensor by tensor, beside its original"},
)
