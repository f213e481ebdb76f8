"""Whether strangers share this server, and what is then not for them to read."""

import os
import re


def public() -> bool:
    """``QFUND_PUBLIC=1``: strangers share this server. Nothing can be deleted, own texts are not listed, and no message
    tells of the machine."""
    return os.environ.get("QFUND_PUBLIC", "") not in ("", "0")


#: A path of two steps or more that begins at the root. What follows a letter or a colon is a part of an address.
_PATH = re.compile(r"(?<![\w.:/~-])~?/(?:[^\s/:'\"<>|]+/)+([^\s/:'\"<>|,;)]*)")
#: A sentence of another library's that asks for what qfund never does.
_FOREIGN_CODE = re.compile(r"[^.!?\n]*\btrust_remote_code\b[^.!?\n]*[.!?]?\s*")


def discreet(text: str) -> str:
    """A message as everybody may read it: never with advice to run a model's own code, and in public of a path here its
    last step only."""
    text = _FOREIGN_CODE.sub("", text).rstrip() if "trust_remote_code" in text else text
    return _PATH.sub(lambda found: found[1] or "…", text) if public() else text
