"""Room on the disk for what is downloaded: a budget on servers of strangers, and what was not used for longest goes."""

import os
import shutil
import threading
import time
from pathlib import Path

from huggingface_hub import constants, scan_cache_dir
from huggingface_hub.errors import CacheNotFound

from qfund.core.errors import InvalidSpec, OutOfBudget
from qfund.core.home import home
from qfund.core.machine import public
from qfund.core.units import bytes_text

_DEFAULT_GIB = 20.0  # on a server of strangers
#: What a download leaves free, for results and whatever else is on the disk.
MARGIN = 1 << 30
#: Seconds after which a repository that this process has fetched may go again: a job fetches all that it needs first.
_NEEDED = 900.0
_fetched: dict[str, float] = {}
_one_at_a_time = threading.Lock()


def budget() -> int | None:
    """Bytes that downloads may take: ``QFUND_HUB_GIB``; None on a machine of one's own, where nothing is ever deleted.

    Raises:
        InvalidSpec: the setting is no number above 0.
    """
    given = os.environ.get("QFUND_HUB_GIB")
    if not given:
        return int(_DEFAULT_GIB * 1024**3) if public() else None
    try:
        gib = float(given)
    except ValueError:
        gib = 0.0
    if not 0 < gib < 1e9:
        raise InvalidSpec(f"QFUND_HUB_GIB is {given!r}.", "Give a number above 0, for example 20.")
    return int(gib * 1024**3)


def folder() -> Path | None:
    """Where downloads are kept: with a budget in ``QFUND_HOME``, where all is ours to delete; None for the client's own
    cache, which other programs share."""
    return home() / "hub" if budget() is not None else None


def make(repository: str, wanted: int) -> None:
    """Room for ``wanted`` bytes of a repository, before it is fetched.

    Raises:
        OutOfBudget: there is none, whatever is evicted.
    """
    if wanted <= 0:
        return
    most, place = budget(), folder() or Path(constants.HF_HUB_CACHE)
    with _one_at_a_time:
        now = time.monotonic()
        if most is not None:
            _evict(place, repository, most - wanted, now)
        # The folder may be there with the first download only.
        there = next(path for path in (place, *place.parents) if path.exists())
        if (free := shutil.disk_usage(there).free) < wanted + MARGIN:
            raise OutOfBudget(
                f"{repository} takes {bytes_text(wanted)} to download; the disk has {bytes_text(free)} free.",
                "Choose a smaller model, or free some of the disk.",
            )
        _fetched[repository] = now


def _evict(place: Path, repository: str, left: int, now: float) -> None:
    """Delete what was used longest ago until all takes no more than ``left`` bytes."""
    try:
        cached = scan_cache_dir(place)
    except CacheNotFound:
        cached = None
    repositories = sorted(cached.repos if cached else [], key=lambda repo: repo.last_accessed)
    held = sum(repo.size_on_disk for repo in repositories)
    goes: list[Path] = []
    for repo in repositories:
        if held <= left:
            break
        if repo.repo_id == repository or now - _fetched.get(repo.repo_id, -_NEEDED) < _NEEDED:
            continue
        goes.append(repo.repo_path)
        held -= repo.size_on_disk
    if held > left:
        raise OutOfBudget(
            f"{repository} does not fit in what this server keeps of the Hub.",
            "Try again in a quarter of an hour, or choose a smaller model.",
        )
    for path in goes:
        shutil.rmtree(path)
