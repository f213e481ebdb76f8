"""The sub-commands, from the rows of all features. None is imported before it is asked for."""

from dataclasses import dataclass

from qfund.commandline.table import Command
from qfund.core.feature import Feature, lazily


@dataclass(frozen=True, slots=True)
class Entry:
    """What a command does, in one line, and where it is."""

    help: str
    target: str

    def load(self) -> Command:
        command: Command = lazily(self.target)
        return command


def _of(feature: Feature) -> dict[str, Entry]:
    module = f"qfund.features.{feature.name}.command"
    return {
        name: Entry(
            does, f"{module}.{name.replace('-', '_')}:COMMAND" if len(feature.commands) > 1 else f"{module}:COMMAND"
        )
        for name, does in feature.commands.items()
    }


#: ``features`` is above this room, so it is named, not imported.
COMMANDS: dict[str, Entry] = {
    **{name: entry for feature in lazily("qfund.features:FEATURES") for name, entry in _of(feature).items()},
    "ls": Entry("list models, precisions or metrics", "qfund.commandline.listing:COMMAND"),
    "store": Entry("say what the store holds, prune it, export or import it", "qfund.commandline.keeping:COMMAND"),
    "run": Entry("start the dashboard in a browser", "qfund.commandline.serving:COMMAND"),
}
