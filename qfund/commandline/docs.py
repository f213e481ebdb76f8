"""``python -m qfund.commandline.docs`` prints ``docs/commands.md``, from the same rows as ``--help``."""

from collections.abc import Iterator

from qfund.commandline.commands import COMMANDS
from qfund.commandline.table import Command, Exclusive


def document() -> str:
    """``docs/commands.md``."""
    lines = [
        "# Commands",
        "",
        "Made by `python -m qfund.commandline.docs` from the rows that `qfund COMMAND --help` prints; do not edit.",
        "Results go to standard output, progress and messages to standard error. Exit codes: 0 done, 1 failed, 2 wrong",
        "usage. `qfund --version` says which qfund this is.",
        "",
        *(f"- [`qfund {name}`](#qfund-{name}): {entry.help}" for name, entry in COMMANDS.items()),
    ]
    for name, entry in COMMANDS.items():
        lines += ["", f"## qfund {name}", "", f"{entry.help[:1].upper()}{entry.help[1:]}.", "", *_command(entry.load())]
    return "\n".join(lines) + "\n"


def _command(command: Command) -> Iterator[str]:
    yield from ("```sh", *command.examples, "```", "")
    yield from (f"- `{option.usage}`: {option.help}" for option in command.options)
    for row in command.rows:
        if isinstance(row, Exclusive):
            names = ", ".join(f"`{option.name}`" for option in row.options)
            yield from ("", f"{'Exactly' if row.required else 'At most'} one of {names}.")
    if command.notes:
        yield from ("", command.notes)


if __name__ == "__main__":
    print(document(), end="")
