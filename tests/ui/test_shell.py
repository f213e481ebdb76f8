"""What pages share: text that is no Markdown, and a process that never waits for torch."""

import os
import subprocess
import sys
from pathlib import Path

from qfund.ui.states import literal
from tests.ui import pages


def test_markdown_in_names_is_shown_and_not_obeyed() -> None:
    assert literal("![a](b)") == r"\!\[a\]\(b\)"
    assert literal("a\n\nb") == "a  b"


_NO_TORCH = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "transformers"):
            raise AssertionError(f"{name} was imported by the web process")

sys.meta_path.insert(0, Refuse())
from streamlit.testing.v1 import AppTest
at = AppTest.from_file("app.py", default_timeout=60).run()
for page in ("pages/saved.py", "pages/guide.py", "pages/precisions.py", "pages/compare.py"):
    assert not at.exception, at.exception
    at.switch_page(page).run()
assert not at.exception, at.exception
from pathlib import Path
import importlib
from qfund.features.compare import figures, tables, words
for package in (figures, tables, words):
    for path in Path(package.__file__).parent.glob("*.py"):
        importlib.import_module(f"{package.__name__}.{path.stem}")
for path in Path("qfund/ui").glob("*.py"):
    importlib.import_module(f"qfund.ui.{path.stem}")
assert not {"torch", "transformers"} & {name.partition(".")[0] for name in sys.modules}
"""


def test_the_web_process_imports_neither_torch_nor_transformers(tmp_path: Path) -> None:
    environment = {**os.environ, "QFUND_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", _NO_TORCH], cwd=pages.ROOT, env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr[-3000:]
