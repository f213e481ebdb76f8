"""Links and widget values that nobody means, through every page: how many end in an exception box. The aim is 0.

    python -m benchmarks.forge values 50      # so many reruns of each page with forged values of its widgets
    python -m benchmarks.forge links 200 7    # so many hostile links to each page, from another seed

Pages run without a browser and without a worker (``AppTest``). ``tests/features/test_fuzz.py`` runs a few of the same.
"""

import sys
import tempfile
from pathlib import Path
from random import Random
from typing import Any

from streamlit.proto.WidgetStates_pb2 import WidgetState, WidgetStates

from benchmarks import fuzz
from qfund.features import FEATURES

PAGES = tuple(feature.page.path for feature in FEATURES if feature.page)
_ARRAYS = ("double_array_value", "int_array_value", "string_array_value")
_TEXTS = ("string_value", "json_value", "json_trigger_value")
_KINDS = (
    *("trigger_value", "bool_value", "double_value", "int_value", "bytes_value", "string_trigger_value"),
    *(*_ARRAYS, *_TEXTS),
)
_WORDS = ("", "nan", "-1", "bf16", "fp32", "\0", "9" * 20, "{}", "[]", '{"a": 1}', "\u202e", "<script>", "x" * 5000)


def forged(widget: WidgetState, random: Random) -> WidgetState:
    """Another value for a widget: half of them of its own kind."""
    usual = widget.WhichOneof("value")
    kind = usual if usual in _KINDS and random.random() < 0.5 else random.choice(_KINDS)
    found, word = WidgetState(id=widget.id), random.choice(_WORDS)
    whole = random.choice((-1, 0, 3, 10**6, -(2**62)))
    broken = random.choice((float("nan"), float("inf"), -1e300, 0.5))
    if kind in _ARRAYS:
        values: list[Any] = [word, random.choice(_WORDS)] if kind == "string_array_value" else [whole, -1]
        array = getattr(found, kind)
        array.SetInParent()
        array.data.extend(values[: random.randrange(3)])
    elif kind == "string_trigger_value":
        found.string_trigger_value.data = word
    else:
        value = {"double_value": broken, "int_value": whole, "bytes_value": word.encode()}.get(
            str(kind), word if kind in _TEXTS else random.random() < 0.7
        )
        setattr(found, str(kind), value)
    return found


def press(at: Any, random: Random) -> list[str]:
    """Run a page again, with forged values for two of its widgets, and say which."""
    try:
        sent = at._tree.get_widget_states()
    except ValueError:  # AppTest cannot say what a select box holds that is none of its options
        return []
    picked = random.sample(range(len(sent.widgets)), min(2, len(sent.widgets)))
    made = {number: forged(sent.widgets[number], random) for number in picked}
    at._run(WidgetStates(widgets=[made.get(number, widget) for number, widget in enumerate(sent.widgets)]))
    return [str(widget) for widget in made.values()]


def main() -> None:
    import pytest

    from tests.ui import pages

    what, count, seed = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 1
    patch, runs, boxes = pytest.MonkeyPatch(), 0, 0
    pages.with_jobs(pages.FakeJobs(), patch)
    with tempfile.TemporaryDirectory(prefix="qfund-forge-") as room, pages.server(patch):
        pages.with_store(Path(room), patch)
        for page in PAGES:
            random, at = Random(f"{seed} {page}"), None
            for _ in range(count):
                if what == "links":
                    asked: Any = fuzz.link(random)
                    at = pages.app(asked).switch_page(f"pages/{page}.py").run()
                else:
                    at = at or pages.opened(f"pages/{page}.py")
                    asked = press(at, random)
                runs += 1
                if at.exception:
                    boxes += 1
                    print(page, asked, [error.message[:200] for error in at.exception], flush=True)
                if at.exception or not asked:  # a page without widgets has nothing to forge
                    at = None
    print(f"{runs:,} {what}: {boxes} exception boxes")


if __name__ == "__main__":
    main()
