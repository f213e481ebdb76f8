"""Do what ``cases`` names in a process of its own, and write down what came of it:

    python -m tests.golden.perform PART FOLDER [DATABASE]

``PART`` is a name of ``PARTS``; ``DATABASE`` is copied and found by commands and pages as the one of earlier results.
"""

import io
import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from base64 import b64decode
from collections.abc import Callable, Iterator
from contextlib import chdir, contextmanager, redirect_stderr, redirect_stdout
from hashlib import sha256
from pathlib import Path
from typing import Any
from unittest import mock

from qfund.core.errors import QfundError
from qfund.core.request import Request
from qfund.engine import compute, key_of
from qfund.engine.job import Job, Visitor
from qfund.engine.jobs import Jobs
from qfund.engine.store import Store
from tests.golden import masks
from tests.golden.cases import ASKED, CLASSIFIER, COMMANDS, LINKS, LOADS, PRESSED, ROOT, STORED, Case, Files, Link

#: What another thread count or terminal would change.
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive", "COLUMNS": "160", "HF_HUB_OFFLINE": "1"}
#: Parts of elements that are the browser's business, or made anew by every server.
_UNSEEN = {"id", "formId", "url", "widthConfig", "heightConfig", "textAlignmentConfig", "flexContainer", "gapConfig"}
_UNSEEN |= {"deferredFileId", "elementId", "mediaFileId", "fragmentId", "scriptRunId", "viewId", "componentName"}
_UNSEEN |= {"setValue", "labelVisibility", "wrap", "hideAnchor", "elementType", "rawValue", "rawValues", "tag"}
_TEXTS = {"body", "codeText", "help"}
_LONG_LIST, _LONG_PICTURE = 600, 1500  # characters
_PATIENCE = 300  # seconds for a job


def start(part: str, folder: Path, database: Path | None = None) -> None:
    """Run a part in a process that inherits no setting and no thread count.

    Raises:
        RuntimeError: it did not end well.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("QFUND_", "OMP_", "MKL_"))}
    with tempfile.TemporaryDirectory(prefix="qfund-golden-") as home:
        if database is not None:
            shutil.copy(database, Path(home) / "qfund.db")
        command = [sys.executable, "-m", "tests.golden.perform", part, str(folder)]
        environment = kept | ENVIRONMENT | {"QFUND_HOME": home, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{part} ended with {done.returncode}:\n{done.stderr[-4000:]}")


def commands(cases: tuple[Case, ...]) -> Iterator[tuple[str, str]]:
    with _work() as folder:
        for case in cases:
            yield case.name, masks.words(_command(case, folder))


def stored() -> Iterator[tuple[str, str]]:
    """What the database answers: the words, and the digest of the document."""
    with _work() as folder:
        for case in STORED:
            printed = _run(Case(case.name, f"{case.line} --json", case.files), folder)[1]
            yield case.name, f"{_command(case, folder)}\njson sha256 {sha256(printed.encode()).hexdigest()}"


def pages() -> Iterator[tuple[str, str]]:
    with _work() as folder, _server():
        _write(CLASSIFIER, folder)
        for link in LINKS:
            yield link.name, _page(link)


def database() -> Iterator[tuple[str, str]]:
    """Fill ``QFUND_HOME``: by commands, and by what pages ask for."""
    with _work() as folder, _server():
        for case in STORED:
            code, _, err = _run(case, folder)
            assert code == 0, err
        _write(CLASSIFIER, folder)
        for link in ASKED:
            _opened(link, wait=True)
        for link, button in PRESSED:
            at = _opened(link, wait=True)
            next(each for each in at.button if each.label == button).click().run()
            _settle(at)
    yield from ()


PARTS: dict[str, Callable[[], Iterator[tuple[str, str]]]] = {
    "commands": lambda: commands(COMMANDS),
    "loads": lambda: ((name, masks.loading(text)) for name, text in commands(LOADS)),
    "stored": stored,
    "pages": pages,
    "database": database,
}


@contextmanager
def _work() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="qfund-work-") as folder, chdir(folder):
        yield Path(folder)


def _write(files: Files, folder: Path) -> None:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.read_bytes() if isinstance(content, Path) else content)


def _run(case: Case, folder: Path) -> tuple[object, str, str]:
    """Exit code, standard output, standard error."""
    from qfund.cli import main

    _write(case.files, folder)
    out, err = io.StringIO(), io.StringIO()
    code: object = "none"
    with (
        mock.patch.dict(os.environ, case.environment),
        mock.patch.object(sys, "stdin", io.TextIOWrapper(io.BytesIO(case.stdin.encode()))),
        redirect_stdout(out),
        redirect_stderr(err),
    ):
        try:
            main(case.arguments)
        except SystemExit as ended:
            code = ended.code
        except Exception as error:
            code = f"{type(error).__name__}: {error}"
    for name in case.files:
        shutil.rmtree(folder / name.split("/")[0], ignore_errors=True)
        (folder / name).unlink(missing_ok=True)
    return code, out.getvalue(), err.getvalue()


def _command(case: Case, folder: Path) -> str:
    code, out, err = _run(case, folder)
    printed = masks.laid_out(masks.document(json.loads(out))) if out.startswith("{") else out
    told = f"$ qfund {case.line}\nexit {code}\n--- out\n{printed}\n--- err\n{err}"
    return masks.placed(told, _places())


def _places() -> dict[str, str]:
    """Folders of this machine, and what is written in their place."""
    homes = {os.environ["QFUND_HOME"]: "<home>", str(Path.cwd()): "<work>", str(Path.cwd().resolve()): "<work>"}
    return homes | {str(ROOT): "<root>", sys.prefix: "<python>", str(Path.home()): "<user>"}


@contextmanager
def _server() -> Iterator[None]:
    """AppTest makes every run a fresh server's first one, in which Streamlit runs a page without ``app.py``."""
    from streamlit.runtime.pages_manager import PagesManager

    begin = PagesManager.__init__

    def begun(self: PagesManager, *args: Any, **kwargs: Any) -> None:
        begin(self, *args, **kwargs)
        PagesManager.uses_pages_directory = False

    with mock.patch.object(PagesManager, "__init__", begun), mock.patch.object(Jobs, "submit", _at_once):
        yield


def _at_once(jobs: Jobs, request: Request, visitor: Visitor) -> Job:
    """A job that a page asks for, done before the page goes on: what is there then depends on no machine's speed."""
    key, store = key_of(request), Store()
    try:
        return Job(key, request, "done", result=compute(request, store=store))
    except QfundError as error:
        return Job(key, request, "failed", error=error)


def _opened(link: Link, wait: bool = False) -> Any:
    from urllib.parse import parse_qs

    from streamlit.testing.v1 import AppTest

    at = AppTest.from_file(str(ROOT / "app.py"), default_timeout=120)
    for name, values in parse_qs(link.query, keep_blank_values=True).items():
        at.query_params[name] = values
    at.switch_page(f"pages/{link.page}.py").run()
    if link.tab:
        tabs = next(node for node in _nodes(at.main) if node.type == "tab_container")
        key = tabs.proto.id.split("-", 2)[2]  # "$$ID-…-section"
        titles = [node.label for node in _nodes(tabs) if node.type == "tab"]
        at.session_state[key] = next(title for title in titles if title.endswith(link.tab))
        at.run()
    if wait:
        _settle(at)
    return at


def _settle(at: Any) -> None:
    """Wait until no job is at work for what is shown."""
    until = time.monotonic() + _PATIENCE
    while any(node.type == "progress" for node in _nodes(at.main)):
        assert time.monotonic() < until, "a job does not end"
        time.sleep(0.3)
        at.run()


def _page(link: Link) -> str:
    at = _opened(link)
    address = {name: values if isinstance(values, list) else [values] for name, values in at.query_params.items()}
    shown = [f"# {link.page}?{link.query} {link.tab}".rstrip(), f"address {json.dumps(dict(sorted(address.items())))}"]
    for node in _nodes(at.main):
        shown += _told(node)
    shown += [f"exception {node.message}" for node in at.exception]
    return masks.momentary(masks.placed("\n".join(shown), _places()))


def _nodes(node: Any) -> Iterator[Any]:
    for child in getattr(node, "children", {}).values():
        yield child
        yield from _nodes(child)


#: Widgets whose options are what this machine does in about a minute.
_TIMED = {"How much of it"}


def _told(node: Any) -> list[str]:
    """An element as a visitor finds it, in lines; nothing of what only arranges others."""
    from google.protobuf.json_format import MessageToDict  # type: ignore[import-untyped]

    fields = MessageToDict(node.proto) if node.proto is not None else {}
    kind = node.type or "?"
    if kind in ("plotly_chart", "arrow_data_frame", "dataframe"):
        seen: dict[str, Any] = {"sha256": _digest(node, fields)}
        seen |= {name: fields[name] for name in ("alt", "altText", "label") if name in fields}
        if kind != "plotly_chart":
            seen["columns"] = [str(column) for column in node.value.columns]
            seen["rows"] = len(node.value)
    elif hasattr(node, "children"):
        inner = fields.get(kind, fields)
        seen = {name: inner[name] for name in ("label", "icon", "help") if isinstance(inner, dict) and name in inner}
        if not seen:
            return []
    else:
        seen = _visible({name: value for name, value in fields.items() if fields.get("label") not in _TIMED})
        value = getattr(node, "value", None)
        if isinstance(value, str | int | float | list | tuple) and value not in fields.values():
            seen["shown"] = _visible(value)
    return [f"{kind} {masks.laid_out(seen)}"]


def _visible(value: Any, name: str = "") -> Any:
    """Long pictures and lists as their digest."""
    if isinstance(value, dict):
        return {inner: _visible(found, inner) for inner, found in value.items() if inner not in _UNSEEN}
    if isinstance(value, list):
        text = json.dumps(value)
        if len(text) > _LONG_LIST:
            return f"{len(value)} values from {value[0]!r} to {value[-1]!r}, digest {sha256(text.encode()).hexdigest()}"
        return [_visible(each) for each in value]
    if name == "bytes" and isinstance(value, str):  # what a component is given; its id is no more than a key
        value = re.sub(r'"id":"[^"]*"', "", b64decode(value).decode("latin-1"))
    if isinstance(value, str) and len(value) > _LONG_PICTURE and (value.startswith("<") or name not in _TEXTS):
        value = masks.momentary(value)
        return f"{len(value)} characters, sha256 {sha256(value.encode()).hexdigest()}"
    return value


def _digest(node: Any, fields: dict[str, Any]) -> str:
    seen = fields["spec"] if "spec" in fields else node.value.to_csv(index=False)
    return f"sha256 {sha256(seen.encode()).hexdigest()}"


def main() -> None:
    part, folder = sys.argv[1], Path(sys.argv[2])
    import qfund

    assert Path(qfund.__file__).is_relative_to(ROOT), f"this is another qfund: {qfund.__file__}"
    for name, text in PARTS[part]():
        (folder / f"{name}.txt").write_text(text + "\n", "utf-8")
    if part == "database":
        with sqlite3.connect(Path(os.environ["QFUND_HOME"]) / "qfund.db", isolation_level=None) as connection:
            connection.execute("VACUUM INTO ?", [str(folder / "qfund.sqlite")])


if __name__ == "__main__":
    main()
    sys.stdout.flush()
    os._exit(0)  # threads and workers of the pages end with it
