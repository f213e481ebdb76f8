"""Draw the house from the code, into docs/architecture.md:  python -m tests.architecture

Between its two marks that page holds what is made here of rows, docstrings and imports; the rest is written by hand.
"""

import ast
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from qfund.core.feature import Feature
from qfund.features import FEATURES
from tests.house import FILES, PARTS, ROOMS, ROOT, SEEN_BY_OTHERS, place, seen

PAGE = ROOT / "docs/architecture.md"

BEGIN, END = "<!-- drawn: make docs -->", "<!-- end of what is drawn -->"

#: ``app.py``, the pages, and what lies in ``qfund/`` itself.
FRONT = "front"

Graph = Mapping[str, set[str]]


def main() -> None:
    before, _, after = _pieces()
    PAGE.write_text(f"{before}{BEGIN}\n\n{drawn()}\n\n{END}{after}", "utf-8")
    print(PAGE.relative_to(ROOT))


def agrees() -> bool:
    """Whether the page shows the house as it is. Counts may lag, so that not every line changes the page."""
    old, new = _pieces()[1].strip(), drawn()
    number = re.compile(r"\d[\d,]*")
    counts = ([int(found.replace(",", "")) for found in number.findall(text)] for text in (old, new))
    return number.sub("0", old) == number.sub("0", new) and all(
        abs(was - now) <= max(3, 0.2 * now) for was, now in zip(*counts, strict=True)
    )


def _pieces() -> tuple[str, str, str]:
    """The page up to the first mark, between the marks, and from the second one on."""
    before, _, rest = PAGE.read_text("utf-8").partition(BEGIN)
    inside, _, after = rest.partition(END)
    return before, inside, after


def drawn() -> str:
    return "\n\n".join(_sections())


def _sections() -> Iterator[str]:
    rooms, features = room_graph(), feature_graph()
    yield "### Rooms"
    yield (
        "An arrow leads from a room to one that it imports. Where it also leads there through others, it is not drawn: "
        f"there are {sum(map(len, rooms.values()))} in all."
    )
    yield mermaid(reduced(rooms), {room: _label(room, _of_room(room)) for room in (*ROOMS, FRONT)})
    yield table(
        ("room", "what for", "files", "lines", "imports"),
        (
            (f"`{room}`", _summary(room), *_size(_of_room(room)), ", ".join(sorted(rooms[room], key=ROOMS.index)))
            for room in ROOMS
        ),
    )
    yield "### Features"
    yield "An arrow leads from a feature to one whose public parts it imports: its " + " ".join(
        (", ".join(SEEN_BY_OTHERS[:-1]), "and", f"{SEEN_BY_OTHERS[-1]}.")
    )
    yield mermaid(features, {row.name: _label(row.name, _of_feature(row.name)) for row in FEATURES})
    yield table(
        ("feature", "what for", "page", "kinds of job", "files", "lines"),
        (
            (f"`{row.name}`", _summary(f"features/{row.name}"), *_row(row), *_size(_of_feature(row.name)))
            for row in FEATURES
        ),
    )
    yield "### The files of a feature"
    yield "A part is a file, or a folder of that name. Lines of each, and what it may import of its own feature:"
    yield table(
        ("part", "holds", "may import", *(row.name for row in FEATURES)),
        (
            (f"`{name}`", part.holds, ", ".join(part.imports), *(_lines(row.name, name) for row in FEATURES))
            for name, part in PARTS.items()
        ),
    )


def room_graph() -> dict[str, set[str]]:
    """Each room → the other rooms that it imports."""
    graph: dict[str, set[str]] = {room: set() for room in (*ROOMS, FRONT)}
    for path in FILES:
        here = _room(place(path))
        graph[here] |= {there[0] for _, there in seen(path) if _room(there) not in (here, FRONT)}
    return graph


def feature_graph() -> dict[str, set[str]]:
    graph: dict[str, set[str]] = {row.name: set() for row in FEATURES}
    for path in FILES:
        match place(path):
            case ("features", feature, *_):
                others = {there[1] for _, there in seen(path) if there[:1] == ("features",)}
                graph[feature] |= others - {feature}
    return graph


def reduced(graph: Graph) -> dict[str, set[str]]:
    """A graph without circles, less the arrows that others lead along too."""
    reach: dict[str, set[str]] = {}

    def reached(node: str) -> set[str]:
        if node not in reach:
            reach[node] = graph[node].union(*map(reached, graph[node]))
        return reach[node]

    return {node: ends - set().union(*map(reached, ends)) for node, ends in graph.items()}


def mermaid(graph: Graph, labels: Mapping[str, str]) -> str:
    nodes = [f'    {name}["{label}"]' for name, label in labels.items()]
    arrows = [f"    {name} --> {end}" for name in labels for end in sorted(graph[name])]
    return "\n".join(("```mermaid", "graph TD", *nodes, *arrows, "```"))


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    lines = [" | ".join(cells) for cells in (head, *rows)]
    lines.insert(1, "|".join("---" for _ in lines[0].split(" | ")))
    return "\n".join(f"| {line} |" for line in lines)


def _room(at: tuple[str, ...]) -> str:
    return at[0] if at and at[0] in ROOMS else FRONT


def _of_room(room: str) -> list[Path]:
    return [path for path in FILES if _room(place(path)) == room]


def _of_feature(name: str) -> list[Path]:
    return [path for path in FILES if place(path)[:2] == ("features", name)]


def _count(paths: Iterable[Path]) -> int:
    return sum(len(path.read_text("utf-8").splitlines()) for path in paths)


def _size(paths: list[Path]) -> tuple[str, str]:
    return f"{len(paths)}", f"{_count(paths):,}"


def _label(name: str, paths: list[Path]) -> str:
    files, lines = _size(paths)
    return f"{name}<br>{files} files, {lines} lines"


def _lines(feature: str, part: str) -> str:
    count = _count(path for path in _of_feature(feature) if place(path)[2:3] == (part,))
    return f"{count:,}" if count else ""


def _summary(folder: str) -> str:
    """The first paragraph of a package's docstring, in one line."""
    text = ast.get_docstring(ast.parse((ROOT / "qfund" / folder / "__init__.py").read_text("utf-8"))) or ""
    return " ".join(text.partition("\n\n")[0].split())


def _row(feature: Feature) -> tuple[str, str]:
    return f"`/{feature.page.path}`" if feature.page else "", ", ".join(f"`{kind.name}`" for kind in feature.kinds)


if __name__ == "__main__":
    main()
