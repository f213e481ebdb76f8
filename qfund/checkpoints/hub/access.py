"""The Hub's client: as whom it asks, what a repository holds, and its errors in our words."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from huggingface_hub import HfApi
from huggingface_hub.errors import GatedRepoError, OfflineModeIsEnabled, RepositoryNotFoundError, RevisionNotFoundError

from qfund.checkpoints.recognition import Folder, not_a_model
from qfund.core.errors import ModelNotFound, QfundError, UnsafeCheckpoint, UnsupportedModel
from qfund.core.machine import public

#: Files of a repository that are listed; the largest models have some hundreds.
MOST_FILES = 10_000


def token() -> bool | None:
    """What the client takes for a token: None for the operator's, where there is one; False for none. Visitors read as
    everybody does, unless ``QFUND_HUB_TOKEN=1`` lends them the operator's."""
    return False if public() and os.environ.get("QFUND_HUB_TOKEN", "") in ("", "0") else None


def files_of(repository: str, revision: str | None) -> tuple[str, dict[str, int]]:
    """The commit, and the size of every file in it.

    Raises:
        UnsupportedModel: it has more than ``MOST_FILES``.
    """
    info = HfApi(token=token()).model_info(repository, revision=revision, files_metadata=True, timeout=20)
    found = info.siblings or []
    if len(found) > MOST_FILES:
        raise UnsupportedModel(
            f"{repository} holds {len(found):,} files; of at most {MOST_FILES:,} a model is looked for.",
            "Name a repository of one model.",
        )
    return info.sha or "", {file.rfilename: file.size or 0 for file in found}


def weights_of(repository: str, files: Mapping[str, int]) -> dict[str, int]:
    """Its safetensors, with their sizes.

    Raises:
        UnsafeCheckpoint: it has none.
        UnsupportedModel: it has GGUF files only, or is no model.
    """
    weights = {name: size for name, size in files.items() if name.endswith(".safetensors") and "/" not in name}
    if not weights:
        known = instead(repository, files)
        if known is not None and not isinstance(known, UnsafeCheckpoint):
            raise known
        raise UnsafeCheckpoint(
            f"{repository} has no safetensors weights; pickled ones could run any code, so qfund refuses.",
            "Choose a repository (or a revision, such as a refs/pr/… conversion) with safetensors.",
        )
    return weights


def instead(repository: str, files: Mapping[str, int]) -> QfundError | None:
    """What the repository is instead, by the names at its top."""
    names = frozenset(name.partition("/")[0] for name in files)
    return not_a_model(Folder(repository, names, {} if "config.json" in names else None))


def _private(remedy: str) -> str:
    return remedy if token() is None else "This server reads what is open to everybody: name another one."


@contextmanager
def explained(repository: str, revision: str | None) -> Iterator[None]:
    """Errors of the client and of the transport in our words."""
    try:
        yield
    except GatedRepoError as error:
        raise ModelNotFound(
            f"{repository} is gated.",
            _private("Accept its terms on the Hub and set HF_TOKEN to a token that may read it."),
        ) from error
    except RevisionNotFoundError as error:
        raise ModelNotFound(f"{repository} has no revision {revision!r}.", "Check branch, tag or commit.") from error
    except RepositoryNotFoundError as error:
        raise ModelNotFound(
            f"The Hub has no model {repository}, or it is private.",
            _private("Check the name; for a private one set HF_TOKEN."),
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
