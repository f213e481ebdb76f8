"""Command lines to values: argparse, with help that fits a line and errors that say what to do."""

import difflib
import shutil
import textwrap
from argparse import ArgumentParser, ArgumentTypeError, HelpFormatter, Namespace
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NoReturn

from qfund.commandline.commands import COMMANDS
from qfund.commandline.table import Command, Exclusive, Option
from qfund.commandline.tables import aligned
from qfund.core.errors import UsageError
from qfund.core.names import look_up, unknown
from qfund.core.text import unmarked
from qfund.version import VERSION

WIDTH = 100  # characters of a line of help, at most

_CLOSE = 0.75  # likeness of options that may be mistaken for each other, their dashes counted

DESCRIPTION = "What lower precision costs a neural network, and what it buys."

EXAMPLES = (
    "qfund compare pydoc-llama --precision bf16 int8",
    "qfund fits pydoc-llama --budget 24GiB",
    "qfund run",
)


def parse(arguments: Sequence[str]) -> Namespace:
    """The options of the sub-command that the first argument names, its ``run`` among them.

    Raises:
        UsageError: what is wrong, and the names that were probably meant.
        SystemExit: help or the version was asked for, and printed.
    """
    name = arguments[0] if arguments else "--help"
    if name.startswith("-"):
        return _front().parse_args(arguments or [name])
    entry = look_up(COMMANDS, name, "command")
    return parser(name, entry.help, entry.load()).parse_args([unmarked(argument) for argument in arguments[1:]])


def parser(name: str, does: str, command: Command) -> "Parser":
    """Of one sub-command."""
    made = Parser(f"qfund {name}", _sentence(does), _below(command.notes, command.examples))
    made.set_defaults(run=command.run)
    for row in command.rows:
        if isinstance(row, Exclusive):
            group = made.add_mutually_exclusive_group(required=row.required)
            for option in row.options:
                _add(group.add_argument, option)
        else:
            _add(made.add_argument, row)
    return made


def _front() -> "Parser":
    listed = "\n".join(f"  {line}" for line in aligned(((name, row.help) for name, row in COMMANDS.items()), left=2))
    notes = f"commands:\n{listed}\n\n`qfund COMMAND --help` tells its options."
    made = Parser("qfund", DESCRIPTION, _below(notes, EXAMPLES), usage="qfund COMMAND …")
    made.add_argument("--version", action="version", version=f"qfund {VERSION}")
    return made


def _add(add_argument: Callable[..., Any], option: Option) -> None:
    settings: dict[str, Any] = {"help": option.help.replace("%", "%%")}
    if option.flag:
        settings["action"] = "store_true"
    else:
        settings |= {"metavar": option.metavar, "type": option.type, "default": option.default}
    if option.choices:
        settings |= {"choices": option.choices, "type": _chosen(option)}
    if option.many:
        settings["nargs"] = "+"
    if option.again:
        settings["action"] = "append"
    add_argument(option.name, **settings)


def _chosen(option: Option) -> Callable[[str], str]:
    def chosen(value: str) -> str:
        if value not in option.choices:
            raise ArgumentTypeError(str(unknown(option.choices, value, option.name.lstrip("-"))))
        return value

    return chosen


def _sentence(text: str) -> str:
    """With a capital and a full stop."""
    return f"{text[:1].upper()}{text[1:].removesuffix('.')}."


def _below(notes: str, examples: Iterable[str]) -> str:
    lines = "\n".join(f"  {example}" for example in examples)
    return "\n\n".join(filter(None, (notes, f"examples:\n{lines}")))


class Formatter(HelpFormatter):
    """At most ``WIDTH`` characters a line; indented lines of notes stay as they are written."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=28, width=min(shutil.get_terminal_size().columns, WIDTH))

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return "\n".join(line if line.startswith(" ") else textwrap.fill(line, width) for line in text.splitlines())


class Parser(ArgumentParser):
    """Wrong usage is a ``UsageError``, as of everything else that qfund is asked."""

    def __init__(self, name: str, description: str, below: str, usage: str | None = None) -> None:
        super().__init__(name, usage, description, epilog=below, formatter_class=Formatter)
        self._given: list[str] = []

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        self._given = list(args)
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        see = f"See `{self.prog} --help`."
        if name := self._unknown_option():
            close = difflib.get_close_matches(name, self._option_string_actions, n=1, cutoff=_CLOSE)
            raise UsageError(f"Unknown option {name}.", f"{f'Did you mean: {close[0]}? ' if close else ''}{see}")
        raise UsageError(_sentence(message), see)

    def _unknown_option(self) -> str | None:
        """The first that no option of this command begins with: it is what is wrong, whatever argparse says."""
        given = self._given[: self._given.index("--")] if "--" in self._given else self._given
        for argument in given:
            name = argument.partition("=")[0]
            known = any(each.startswith(name) for each in self._option_string_actions)
            if name.startswith("--") and " " not in argument and not known:
                return name
        return None
