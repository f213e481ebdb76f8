"""The Hugging Face Hub: headers, or checkpoints (safetensors only, pinned to a commit, refused when too large).

What a repository holds was written by anybody: whatever is asked of it is bounded, in number, bytes and seconds.
"""

from qfund.checkpoints.hub.fetching import download, download_file, downloaded
from qfund.checkpoints.hub.looking import read_headers

__all__ = ["download", "download_file", "downloaded", "read_headers"]
