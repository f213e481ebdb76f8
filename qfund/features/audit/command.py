"""``qfund audit``."""

from argparse import Namespace

from qfund.commandline import measuring
from qfund.commandline.options import JSON, REVISION, STORING
from qfund.commandline.table import Command, Option
from qfund.commandline.tables import aligned
from qfund.features.audit import tables, words
from qfund.features.audit.request import Audit, AuditRequest


def _run(options: Namespace) -> None:
    request = AuditRequest(options.file, options.original or "", options.revision)
    found = measuring.stored(request, options)
    measuring.put(found, options, lambda found: text(found, options.tensors))


COMMAND = Command(
    run=_run,
    rows=(
        Option("file", "a quantised file or folder: a path, or owner/name@revision:file of the Hub"),
        Option("--original", "the model that it was made from: a catalog name, a folder or a Hub id", "M"),
        REVISION,
        Option("--tensors", "a row for every tensor instead of one for each place in the layers", flag=True),
        JSON,
        *STORING,
    ),
    examples=(
        "qfund audit model-Q4_K_M.gguf",
        "qfund audit model-Q4_K_M.gguf --original ./my-model --tensors",
    ),
)


def text(found: Audit, every: bool = False) -> str:
    parts = [words.headline(found), *(f"- {sentence}" for sentence in words.findings(found)), ""]
    parts += [*aligned(tables.types(found)), ""]
    parts += aligned(tables.tensors(found), left=3) if every else aligned(tables.modules(found), left=3)
    return "\n".join(parts)
