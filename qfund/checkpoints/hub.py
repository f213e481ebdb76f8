"""The Hugging Face Hub: headers, or checkpoints (safetensors only, pinned to a commit, refused when too large)."""

import re
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from huggingface_hub import HfApi, hf_hub_download, hf_hub_url, snapshot_download
from huggingface_hub.errors import GatedRepoError, OfflineModeIsEnabled, RepositoryNotFoundError, RevisionNotFoundError
from huggingface_hub.utils import build_hf_headers, get_session, hf_raise_for_status  # type: ignore[attr-defined]

from qfund.checkpoints import checkpoint
from qfund.checkpoints.checkpoint import LARGEST_JSON, Checkpoint, Content
from qfund.checkpoints.headers import StoredTensor, header_length, parse_header, parse_offsets
from qfund.checkpoints.recognition import INDEX, WEIGHTS, Folder, not_a_model, without_wrapper
from qfund.core.errors import (
    CorruptCheckpoint,
    ModelNotFound,
    OutOfBudget,
    QfundError,
    UnsafeCheckpoint,
)
from qfund.core.units import bytes_text

_WANTED = ["*.json", "*.safetensors", "*.txt", "*.model"]
# Copies in other formats and frameworks; folders that begin with a digit are steps of sentence-transformers.
_IGNORED = ["[!0-9]*/*", "*consolidated*"]
_AT_ONCE = 8  # connections


def download(
    repository: str, revision: str | None, largest: int, progress: Callable[[str, float], None]
) -> tuple[Path, str]:
    """A local folder with the repository's checkpoint, and the commit that it is.

    Args:
        repository: ``owner/name``.
        revision: branch, tag or commit; None for ``main``.
        largest: bytes of weights that are accepted.

    Raises:
        ModelNotFound: no such repository or revision, no access, or no network.
        UnsafeCheckpoint: it has no safetensors.
        UnsupportedModel: it has GGUF files only.
        OutOfBudget: its weights are larger than ``largest``.
    """
    progress(f"asking the Hub for {repository}", 0.0)
    with _explained(repository, revision):
        commit, files = _files(repository, revision)
        weights = _weights(repository, files)
        if (total := sum(weights.values())) > largest:
            raise OutOfBudget(
                f"The weights of {repository} take {bytes_text(total)}; this process may hold {bytes_text(largest)}.",
                "Choose a smaller model, or raise QFUND_MODEL_BUDGET_GIB on a machine with more memory.",
            )
        progress(f"downloading {repository} ({bytes_text(total)})", 0.0)
        folder = snapshot_download(repository, revision=commit, allow_patterns=_WANTED, ignore_patterns=_IGNORED)
    return Path(folder), commit


def download_file(
    repository: str, revision: str | None, name: str, largest: int, progress: Callable[[str, float], None]
) -> Path:
    """A local copy of one file of a repository, and of the other parts of a split one.

    Raises:
        ModelNotFound: no such repository, revision or file, no access, or no network.
        OutOfBudget: it is larger than ``largest`` bytes.
    """
    progress(f"asking the Hub for {repository}", 0.0)
    with _explained(repository, revision):
        commit, files = _files(repository, revision)
        split = re.fullmatch(r"(.*-)\d{5}(-of-\d{5}\.gguf)", name)
        wanted = [
            file
            for file in files
            if file == name or (split and re.fullmatch(re.escape(split[1]) + r"\d{5}" + re.escape(split[2]), file))
        ]
        if name not in files:
            others = [file for file in files if file.endswith(".gguf")]
            raise ModelNotFound(
                f"{repository} holds no {name}.",
                f"Choose among: {', '.join(others[:20])}." if others else "Check the name of the file.",
            )
        if (total := sum(files[file] for file in wanted)) > largest:
            raise OutOfBudget(
                f"{name} of {repository} takes {bytes_text(total)}; this process may hold {bytes_text(largest)}.",
                "Choose a smaller file, or raise QFUND_MODEL_BUDGET_GIB on a machine with more memory.",
            )
        progress(f"downloading {name} of {repository} ({bytes_text(total)})", 0.0)
        paths = {file: Path(hf_hub_download(repository, file, revision=commit)) for file in wanted}
    return paths[name]


def downloaded(repository: str, revision: str | None) -> Path | None:
    """The folder of a repository that ``download`` has fetched before, or None; the network is not asked."""
    try:
        return Path(
            snapshot_download(
                repository,
                revision=revision,
                allow_patterns=_WANTED,
                ignore_patterns=_IGNORED,
                local_files_only=True,
            )
        )
    except (OSError, ValueError):  # LocalEntryNotFoundError is both
        return None


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
    """
    progress(f"asking the Hub for {repository}", 0.0)
    with _explained(repository, revision):
        commit, files = _files(repository, revision)
        _weights(repository, files)
        if "config.json" not in files:
            raise _not_a_model(repository, files) or ModelNotFound(
                f"{repository} holds no config.json.", "Name a repository of a transformers model."
            )
        folder = _document(repository, commit, "config.json", files).parent
        config = checkpoint.read_config(folder)
        index = None
        if WEIGHTS not in files:
            if INDEX not in files:
                raise _not_a_model(repository, files) or ModelNotFound(
                    f"{repository} holds neither {WEIGHTS} nor its index.", "Name another repository."
                )
            index = checkpoint.read_index(_document(repository, commit, INDEX, files))
        shards = sorted(set(index.values())) if index else [WEIGHTS]
        if missing := [name for name in shards if name not in files]:
            raise CorruptCheckpoint(f"{repository} lacks {', '.join(missing[:3])}.", "Choose another revision.")
        headers: dict[str, dict[str, StoredTensor]] = {}
        places: dict[str, tuple[str, int]] = {}
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            read = pool.map(lambda name: _header(repository, commit, name, files[name]), shards)
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
        with _explained(repository, commit):
            url = hf_hub_url(repository, file, revision=commit)
            return _range(url, start + first, start + end, f"{file} of {repository}")

    return read


def _files(repository: str, revision: str | None) -> tuple[str, dict[str, int]]:
    """The commit, and the size of every file in it."""
    info = HfApi().model_info(repository, revision=revision, files_metadata=True)
    return info.sha or "", {file.rfilename: file.size or 0 for file in info.siblings or []}


def _weights(repository: str, files: Mapping[str, int]) -> dict[str, int]:
    weights = {name: size for name, size in files.items() if name.endswith(".safetensors") and "/" not in name}
    if not weights:
        known = _not_a_model(repository, files)
        if known is not None and not isinstance(known, UnsafeCheckpoint):
            raise known
        raise UnsafeCheckpoint(
            f"{repository} has no safetensors weights; pickled ones could run any code, so qfund refuses.",
            "Choose a repository (or a revision, such as a refs/pr/… conversion) with safetensors.",
        )
    return weights


def _not_a_model(repository: str, files: Mapping[str, int]) -> QfundError | None:
    """What the repository is instead, by the names at its top."""
    names = frozenset(name.partition("/")[0] for name in files)
    return not_a_model(Folder(repository, names, {} if "config.json" in names else None))


def _document(repository: str, commit: str, name: str, files: Mapping[str, int]) -> Path:
    if files[name] > LARGEST_JSON:
        raise CorruptCheckpoint(
            f"{name} of {repository} has {files[name]:,} bytes; at most {LARGEST_JSON:,} are read.",
            "Choose another revision.",
        )
    return Path(hf_hub_download(repository, name, revision=commit))


def _header(repository: str, commit: str, name: str, size: int) -> tuple[dict[str, StoredTensor], dict[str, int]]:
    """Its tensors, and where in the file each begins."""
    where = f"{name} of {repository}"
    url = hf_hub_url(repository, name, revision=commit)
    length = header_length(_range(url, 0, 8, where), size, where)
    raw = _range(url, 8, 8 + length, where)
    return parse_header(raw, size - 8 - length, where), parse_offsets(raw)


def _range(url: str, start: int, end: int, where: str) -> bytes:
    """These bytes of a file and no more, even of a server that answers with all of it."""
    if end == start:
        return b""
    headers = build_hf_headers() | {"Range": f"bytes={start}-{end - 1}"}
    with get_session().stream("GET", url, headers=headers, follow_redirects=True) as answer:
        hf_raise_for_status(answer)
        if answer.status_code != 206:
            raise ModelNotFound(
                f"{where}: the server ignores ranges, so its header cannot be read without the weights.",
                "Download the checkpoint and name its folder.",
            )
        found = bytearray()
        for part in answer.iter_bytes():
            found += part
            if len(found) >= end - start:
                break
    return bytes(found[: end - start])


@contextmanager
def _explained(repository: str, revision: str | None) -> Iterator[None]:
    """Errors of the client and of the transport in our words."""
    try:
        yield
    except GatedRepoError as error:
        raise ModelNotFound(
            f"{repository} is gated.", "Accept its terms on the Hub and set HF_TOKEN to a token that may read it."
        ) from error
    except RevisionNotFoundError as error:
        raise ModelNotFound(f"{repository} has no revision {revision!r}.", "Check branch, tag or commit.") from error
    except RepositoryNotFoundError as error:
        raise ModelNotFound(
            f"The Hub has no model {repository}, or it is private.", "Check the name; for a private one set HF_TOKEN."
        ) from error
    except OfflineModeIsEnabled as error:
        raise ModelNotFound(
            f"{repository} could not be fetched from the Hub: this process is offline (HF_HUB_OFFLINE).",
            "Unset HF_HUB_OFFLINE, or name a shipped model or a local folder.",
        ) from error
    except QfundError:
        raise
    except Exception as error:  # the transport's own errors: no network, a proxy, a server that fails, a full disk
        raise ModelNotFound(
            f"{repository} could not be fetched from the Hub: {type(error).__name__}: {error}.",
            "Check the network, or name a shipped model or a local folder.",
        ) from error
