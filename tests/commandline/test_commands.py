"""The one table of commands: help, documentation, and what wrong usage is told."""

import shlex
import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import pytest

import qfund
from qfund import cli
from qfund.commandline import docs
from qfund.commandline.commands import COMMANDS
from qfund.commandline.parser import WIDTH, parse
from qfund.commandline.table import Command, Exclusive, Option
from qfund.commandline.tables import aligned
from qfund.core.errors import UsageError

ROOT = Path(__file__).resolve().parents[2]


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    assert ended.value.code == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_and_examples_that_parse(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    entry = COMMANDS[name]
    command = entry.load()
    assert isinstance(command, Command) and entry.help and command.examples
    for example in command.examples:
        program, *arguments = shlex.split(example)
        assert program == "qfund" and arguments[0] == name
        assert parse(arguments).run is command.run
    shown = printed(capsys, name, "--help")
    assert all(example in shown for example in command.examples)
    assert all(option.name in shown and option.help for option in command.options if option.name.startswith("-"))


@pytest.mark.parametrize("columns", [60, 100, 300])
@pytest.mark.parametrize("name", ["", *COMMANDS])
def test_help_fits(
    name: str, columns: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    shown = printed(capsys, *filter(None, [name]), "--help")
    for line in shown.splitlines():
        assert len(line) <= min(columns, WIDTH) or line.startswith("  "), "but examples and names, which stay whole"
        assert len(line) <= WIDTH, line


def test_qfund_alone_prints_its_help_with_three_examples(capsys: pytest.CaptureFixture[str]) -> None:
    shown = printed(capsys)
    assert shown == printed(capsys, "--help") and shown.count("\n  qfund ") == 3
    for name, entry in COMMANDS.items():
        assert f"{name} " in shown and entry.help in shown


def test_the_documented_commands_are_those_there_are() -> None:
    written = (ROOT / "docs/commands.md").read_text("utf-8")
    assert written == docs.document(), "run `python -m qfund.commandline.docs > docs/commands.md`"


def test_the_readme_names_every_command() -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    assert [name for name in COMMANDS if f"qfund {name}" not in readme] == []


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("comprae dummy", "Unknown command 'comprae'. Did you mean: compare?"),
        ("--verison", "Unknown option --verison. Did you mean: --version?"),
        ("compare dummy --precison bf16 int8", "Unknown option --precison. Did you mean: --precision?"),
        ("compare --precison bf16 int8 dummy", "Unknown option --precison. Did you mean: --precision?"),
        ("compare dummy --quickly", "Unknown option --quickly. See `qfund compare --help`."),
        ("fits dummy --buget=3GiB", "Unknown option --buget. Did you mean: --budget?"),
        ("fits dummy --budget 3 --device cud", "Unknown device 'cud'. Did you mean: cuda? Available: cpu, cuda."),
        ("ls precision", "Unknown table 'precision'. Did you mean: precisions?"),
        ("fits dummy", "One of the arguments --budget --gpu is required. See `qfund fits --help`."),
        ("compare", "The following arguments are required: model. See `qfund compare --help`."),
        ("compare dummy --te x", "Ambiguous option: --te could match --text"),
        ("compare dummy int8", "Unrecognized arguments: int8."),
    ],
)
def test_wrong_usage_is_told_what_to_do(line: str, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(shlex.split(line))
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("compare m --precision bf16 int8 --json", {"precision": ["bf16", "int8"], "json": True, "also": []}),
        ("compare --prec=bf16,int8 m", {"precision": ["bf16,int8"], "model": "m"}),
        ("compare m --text=--json", {"text": "--json", "json": False}),
        ("compare m --margin-tokens 5%", {"margin_tokens": 0.05}),
        ("embed m --text a --text b", {"text": ["a", "b"], "pooling": "own", "fresh": False}),
        ("classify m", {"text": None, "texts_file": None}),
        ("caption m --image a.png b.png", {"image": [Path("a.png"), Path("b.png")], "samples": None}),
        ("load-peak m --runs 3", {"runs": 3, "ways": []}),
        ("fits m --gpu t4 --all-logits", {"budget": None, "gpu": "t4", "batch": 1, "all_logits": True}),
        ("run", {"port": 8501, "host": "localhost"}),
    ],
)
def test_rows_are_read(line: str, expected: dict[str, object]) -> None:
    options = vars(parse(shlex.split(line)))
    assert {name: options[name] for name in expected} == expected


def test_a_row_says_how_it_is_used() -> None:
    def nothing(options: Namespace) -> None: ...

    names = (Option("model", ""), Option("--precision", "", "P", many=True), Option("--device", "", choices=("a", "b")))
    command = Command(nothing, (names[0], Exclusive(names[1:])), ())
    assert [option.usage for option in command.options] == ["model", "--precision P …", "--device a|b"]


def test_columns_are_aligned() -> None:
    assert aligned([("a", "1"), ("bcd", "23")]) == ["a     1", "bcd  23"]
    assert aligned([("a", "x", "1"), ("b", "yz", "")], left=2) == ["a  x   1", "b  yz"]


def test_help_imports_nothing_heavy() -> None:
    code = """
import sys
from qfund import cli
try: cli.main(["--help"])
except SystemExit: pass
heavy = {"torch", "transformers", "numpy", "pandas", "sqlalchemy", "msgspec", "plotly", "streamlit"}
print(*(heavy & sys.modules.keys()), *(name for name in sys.modules if name.endswith(".request")), file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stderr.split() == []


def test_commands_import_no_torch() -> None:
    """One after another in one process, which names the first that does."""
    code = """
import sys
from qfund.commandline.commands import COMMANDS
for name, command in COMMANDS.items():
    command.load()
    if "torch" in sys.modules:
        sys.exit(name)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert (done.returncode, done.stderr) == (0, "")


def test_public_names_are_imported_when_they_are_used() -> None:
    assert {*dir(qfund)} == {"Margin", "Report", "Spec", "__version__", "compare", "errors", "sweep", "to_json"}
    assert all(getattr(qfund, name) for name in qfund.__all__)
    with pytest.raises(AttributeError, match="no attribute 'compute'"):
        _ = qfund.compute  # type: ignore[attr-defined]
