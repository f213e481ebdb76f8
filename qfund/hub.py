"""Fetch a checkpoint from the Hugging Face Hub: safetensors only, pinned to a commit, refused when too large."""

from collections.abc import Callable
from pathlib import Path

from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from qfund.errors import ModelNotFound, OutOfBudget, QfundError, UnsafeCheckpoint
from qfund.units import bytes_text

_WANTED = ["*.json", "*.safetensors", "*.txt", "*.model"]
_IGNORED = ["*/*", "*consolidated*"]  # copies in other formats and frameworks


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
        OutOfBudget: its weights are larger than ``largest``.
    """
    progress(f"asking the Hub for {repository}", 0.0)
    try:
        info = HfApi().model_info(repository, revision=revision, files_metadata=True)
        commit = info.sha or ""
        files = {file.rfilename: file.size or 0 for file in info.siblings or []}
        weights = {name: size for name, size in files.items() if name.endswith(".safetensors") and "/" not in name}
        if not weights:
            raise UnsafeCheckpoint(
                f"{repository} has no safetensors weights; pickled ones could run any code, so qfund refuses.",
                "Choose a repository (or a revision, such as a refs/pr/… conversion) with safetensors.",
            )
        if (total := sum(weights.values())) > largest:
            raise OutOfBudget(
                f"The weights of {repository} take {bytes_text(total)}; this process may hold {bytes_text(largest)}.",
                "Choose a smaller model, or raise QFUND_MODEL_BUDGET_GIB on a machine with more memory.",
            )
        progress(f"downloading {repository} ({bytes_text(total)})", 0.0)
        folder = snapshot_download(repository, revision=commit, allow_patterns=_WANTED, ignore_patterns=_IGNORED)
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
    except QfundError:
        raise
    except Exception as error:  # the transport's own errors: no network, a proxy, a server that fails, a full disk
        raise ModelNotFound(
            f"{repository} could not be fetched from the Hub: {type(error).__name__}: {error}.",
            "Check the network, or name a shipped model or a local folder.",
        ) from error
    return Path(folder), commit
