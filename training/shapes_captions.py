"""Measure what the page Captions opens on, and keep it beside the model:  python -m training.shapes_captions

Run it again whenever the weights, the pictures or what a result holds change; a test fails while it is out of date.
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # as the worker runs

from dataclasses import replace

from qfund import backends, captions
from qfund.captions import MODEL, CaptionRequest
from qfund.catalog import CATALOG
from qfund.measures.caption import caption

KEPT = 200  # pictures, the worst first


def main() -> None:
    backends.quiet()
    request = captions.checked(CaptionRequest(MODEL))
    found = caption(request, lambda phase, share: print(f"{share:4.0%} {phase}", flush=True))
    target = CATALOG[MODEL].folder / "captions.json"
    target.write_bytes(captions.to_json(replace(found, pictures=found.pictures[:KEPT])))
    print(captions.headline(found), *captions.verdicts(found), sep="\n")
    print(f"{target}: {target.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
