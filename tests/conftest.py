"""What holds for every test: nothing is kept in, or found in, the home of whoever runs them; and how several processes
(``pytest -n 2``) share the tests and the machine."""

import atexit
import gc
import os
import shutil
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

_HOME = tempfile.mkdtemp(prefix="qfund-tests-")
os.environ["QFUND_HOME"] = _HOME
atexit.register(shutil.rmtree, _HOME, ignore_errors=True)
# A busy machine is no reason to fail.
settings.register_profile("qfund", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("qfund")

# Processes are started by the hundred: each finds compiled what the first one compiled, whatever the machine's custom.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# Before torch is imported, for this process and those that it starts: last bits depend on the number of threads, and
# what is held bit for bit shall not depend on the machine. Where threads matter a test sets them.
os.environ.setdefault("OMP_NUM_THREADS", "1")

#: Files (or folders) that run in one process, because they share what is slow to make: comparisons, a browser.
TOGETHER = {"models/test_footprint": "features/compare/test_architectures", "browser": "browser"}
#: What takes longest, longest first: it begins first, so that no process is left alone with it in the end.
LONGEST = (
    *("features/compare/test_architectures", "browser", "engine/test_cluster"),
    *("golden/test_golden", "features/memory/test_load_peak", "stream/test_stream"),
)

for _name in {*TOGETHER, *TOGETHER.values(), *LONGEST}:
    assert any(Path(__file__).parent.glob(f"{_name}*")), f"{_name} has moved"


class ByFile(LoadScopeScheduling):  # type: ignore[misc]
    """Deals out whole files: what a module makes once is made in one process."""

    def _split_scope(self, nodeid: str) -> str:
        return _group(nodeid.partition("::")[0])


def _group(path: str) -> str:
    """``features/compare/test_spec``, of an absolute path or one from the root; what it shares a process with."""
    file = str(Path(path).with_suffix("")).rpartition("tests/")[2]
    return TOGETHER.get(file) or TOGETHER.get(file.partition("/")[0]) or file


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadScopeScheduling:
    config.option.loadscopereorder = False  # in the order of below
    return ByFile(config, log)


def pytest_collection_finish() -> None:
    """What is imported and collected stays to the end: nobody looks for garbage in it."""
    gc.collect()
    gc.freeze()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    order = {group: place for place, group in enumerate(LONGEST)}
    items.sort(key=lambda item: order.get(_group(str(item.path)), len(order)))
