"""A look at a repository: its config and the headers of its weights, within bounds whatever it holds."""

import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Lock

from huggingface_hub import hf_hub_download, hf_hub_url
from huggingface_hub.utils import build_hf_headers, get_session, hf_raise_for_status  # type: ignore[attr-defined]

from qfund.checkpoints import checkpoint
from qfund.checkpoints.checkpoint import LARGEST_JSON, Checkpoint, Content
from qfund.checkpoints.headers import StoredTensor, header_length, parse_header, parse_offsets
from qfund.checkpoints.hub import room
from qfund.checkpoints.hub.access import explained, files_of, instead, token, weights_of
from qfund.checkpoints.recognition import INDEX, WEIGHTS, without_wrapper
from qfund.core.errors import CorruptCheckpoint, ModelNotFound, OutOfBudget
from qfund.core.units import bytes_text

#: Files of weights, bytes of their headers together, and seconds. The largest models have some 200 files with 30 MB of
#: headers; a header takes up to seven times its bytes in memory.
MOST_SHARDS = 1_000
MOST_BYTES = 48 * 1024**2
MOST_SECONDS = 60.0
_AT_ONCE = 8  # connections


class Look:
    """What one look may still read. Raises ``OutOfBudget`` where that is nothing any more."""

    def __init__(self, repository: str) -> None:
        self._repository, self._end, self._left = repository, time.monotonic() + MOST_SECONDS, MOST_BYTES
        self._lock = Lock()

    def takes(self, count: int) -> None:
        with self._lock:
            self._left -= count
            if self._left < 0:
                raise self._refused(f"headers of more than {bytes_text(MOST_BYTES)}")
        self.goes_on()

    def goes_on(self) -> None:
        if time.monotonic() > self._end:
            raise self._refused(f"headers that took more than {MOST_SECONDS:g} s to read")

    def has(self, shards: int) -> None:
        if shards > MOST_SHARDS:
            raise self._refused(f"weights in {shards:,} files, more than {MOST_SHARDS:,}")

    def _refused(self, what: str) -> OutOfBudget:
        return OutOfBudget(
            f"{self._repository} has {what}, so it was not looked at any further.",
            "Choose another model, or download it and name its folder.",
        )


def read_headers(
    repository: str, revision: str | None, progress: Callable[[str, float], None]
) -> tuple[Checkpoint, str]:
    """The repository's config and headers, and the commit that they are of. No byte of a weight is asked for.

    The checkpoint's folder holds its config.json and, unless it was downloaded before, no weights.

    Raises:
        ModelNotFound: no such repository or revision, no access, or no network.
        UnsafeCheckpoint: it has no safetensors.
        UnsupportedModel: it has GGUF files only, or names no architecture.
        CorruptCheckpoint: config, index or a header is malformed.
        OutOfBudget: its headers are more than a look may take.
    """
    progress(f"asking the Hub for {repository}", 0.0)
    with explained(repository, revision):
        commit, files = files_of(repository, revision)
        weights_of(repository, files)
        if "config.json" not in files:
            raise instead(repository, files) or ModelNotFound(
                f"{repository} holds no config.json.", "Name a repository of a transformers model."
            )
        folder = document(repository, commit, "config.json", files).parent
        config = checkpoint.read_config(folder)
        index = None
        if WEIGHTS not in files:
            if INDEX not in files:
                raise instead(repository, files) or ModelNotFound(
                    f"{repository} holds neither {WEIGHTS} nor its index.", "Name another repository."
                )
            index = checkpoint.read_index(document(repository, commit, INDEX, files))
        shards = sorted(set(index.values())) if index else [WEIGHTS]
        look = Look(repository)
        look.has(len(shards))
        if missing := [name for name in shards if name not in files]:
            raise CorruptCheckpoint(f"{repository} lacks {', '.join(missing[:3])}.", "Choose another revision.")
        headers: dict[str, dict[str, StoredTensor]] = {}
        places: dict[str, tuple[str, int]] = {}
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            read = pool.map(lambda name: _header(look, repository, commit, name, files[name]), shards)
            for count, (name, (header, offsets)) in enumerate(zip(shards, read, strict=True), start=1):
                headers[name] = header
                for tensor, start in offsets.items():
                    places.setdefault(tensor, (name, start))
                progress(f"reading headers of {repository}", count / len(shards))
        found = checkpoint.assemble(folder, repository, config, index, headers)
        return replace(found, content=_content(repository, commit, places)), commit


def _content(repository: str, commit: str, places: Mapping[str, tuple[str, int]]) -> Content:
    """Reads bytes of a tensor by ranges."""
    stored, _ = without_wrapper(places)

    def read(tensor: str, first: int, end: int) -> bytes:
        file, start = places[stored[tensor]]
        with explained(repository, commit):
            url = hf_hub_url(repository, file, revision=commit)
            return _range(url, start + first, start + end, f"{file} of {repository}")

    return read


def document(repository: str, commit: str, name: str, files: Mapping[str, int]) -> Path:
    """A local copy of a JSON file of a commit. Raises ``CorruptCheckpoint`` where it is too large to be one."""
    if files[name] > LARGEST_JSON:
        raise CorruptCheckpoint(
            f"{name} of {repository} has {files[name]:,} bytes; at most {LARGEST_JSON:,} are read.",
            "Choose another revision.",
        )
    return Path(hf_hub_download(repository, name, revision=commit, cache_dir=room.folder(), token=token()))


def _header(
    look: Look, repository: str, commit: str, name: str, size: int
) -> tuple[dict[str, StoredTensor], dict[str, int]]:
    """Its tensors, and where in the file each begins."""
    where = f"{name} of {repository}"
    url = hf_hub_url(repository, name, revision=commit)
    look.goes_on()
    length = header_length(_range(url, 0, 8, where), size, where)
    look.takes(length)
    raw = _range(url, 8, 8 + length, where, look.goes_on)
    return parse_header(raw, size - 8 - length, where), parse_offsets(raw)


def _range(url: str, start: int, end: int, where: str, goes_on: Callable[[], None] = lambda: None) -> bytes:
    """These bytes of a file and no more, even of a server that answers with all of it."""
    if end == start:
        return b""
    headers = build_hf_headers(token=token()) | {"Range": f"bytes={start}-{end - 1}"}
    with get_session().stream("GET", url, headers=headers, follow_redirects=True, timeout=20) as answer:
        hf_raise_for_status(answer)
        if answer.status_code != 206:
            raise ModelNotFound(
                f"{where}: the server ignores ranges, so its header cannot be read without the weights.",
                "Download the checkpoint and name its folder.",
            )
        found = bytearray()
        for part in answer.iter_bytes():
            found += part
            goes_on()
            if len(found) >= end - start:
                break
    return bytes(found[: end - start])
