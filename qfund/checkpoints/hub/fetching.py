"""Files of a repository, fetched: only those that are needed, after its config was judged, and counted before."""

import glob
import re
from collections.abc import Callable, Mapping
from pathlib import Path

from huggingface_hub import hf_hub_download, snapshot_download

from qfund.checkpoints import checkpoint, counts
from qfund.checkpoints.hub import needed, room
from qfund.checkpoints.hub.access import explained, files_of, token, weights_of
from qfund.checkpoints.hub.looking import document
from qfund.checkpoints.recognition import INDEX
from qfund.core.errors import ModelNotFound, OutOfBudget
from qfund.core.units import bytes_text


def download(
    repository: str, revision: str | None, largest: int, progress: Callable[[str, float], None]
) -> tuple[Path, str]:
    """A local folder with the repository's checkpoint, and the commit that it is.

    Args:
        repository: ``owner/name``.
        revision: branch, tag or commit; None for ``main``.
        largest: bytes that are accepted, of weights and all that comes with them.

    Raises:
        ModelNotFound: no such repository or revision, no access, or no network.
        UnsafeCheckpoint: it has no safetensors.
        UnsupportedModel: it has GGUF files only, or asks for more parts than are built.
        CorruptCheckpoint: config or index is malformed.
        OutOfBudget: it is larger than ``largest``, or than the disk has room for.
    """
    progress(f"asking the Hub for {repository}", 0.0)
    with explained(repository, revision):
        commit, files = files_of(repository, revision)
        weights = weights_of(repository, files)
        if "config.json" in files:
            counts.must_be_buildable(checkpoint.read_json(document(repository, commit, "config.json", files)))
        index = checkpoint.read_index(document(repository, commit, INDEX, files)) if INDEX in files else None
        wanted = needed.of_model(repository, files, needed.shards_of(weights, index))
        if (total := sum(wanted.values())) > largest:
            raise OutOfBudget(
                f"The weights of {repository} take {bytes_text(total)}; this process may hold {bytes_text(largest)}.",
                "Choose a smaller model, or raise QFUND_MODEL_BUDGET_GIB on a machine with more memory.",
            )
        missing = _missing(repository, commit, wanted)
        room.make(repository, sum(missing.values()))
        progress(f"downloading {repository} ({bytes_text(total)})", 0.0)
        folder = snapshot_download(
            repository,
            revision=commit,
            allow_patterns=[glob.escape(name) for name in wanted],
            cache_dir=room.folder(),
            token=token(),
        )
    return Path(folder), commit


def _missing(repository: str, commit: str, wanted: Mapping[str, int]) -> dict[str, int]:
    """Of these files those that were not fetched before."""
    folder = downloaded(repository, commit)
    return {name: size for name, size in wanted.items() if folder is None or not (folder / name).is_file()}


def download_file(
    repository: str, revision: str | None, name: str, largest: int, progress: Callable[[str, float], None]
) -> Path:
    """A local copy of one file of a repository, and of the other parts of a split one.

    Raises:
        ModelNotFound: no such repository, revision or file, no access, or no network.
        OutOfBudget: it is larger than ``largest`` bytes.
    """
    progress(f"asking the Hub for {repository}", 0.0)
    with explained(repository, revision):
        commit, files = files_of(repository, revision)
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
        room.make(repository, sum(_missing(repository, commit, {file: files[file] for file in wanted}).values()))
        progress(f"downloading {name} of {repository} ({bytes_text(total)})", 0.0)
        paths = {
            file: Path(hf_hub_download(repository, file, revision=commit, cache_dir=room.folder(), token=token()))
            for file in wanted
        }
    return paths[name]


def downloaded(repository: str, revision: str | None) -> Path | None:
    """The folder of a repository that ``download`` has fetched before, or None; the network is not asked."""
    try:
        return Path(snapshot_download(repository, revision=revision, cache_dir=room.folder(), local_files_only=True))
    except (OSError, ValueError):  # LocalEntryNotFoundError is both
        return None
