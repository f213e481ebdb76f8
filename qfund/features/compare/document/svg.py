"""Pictures as SVG, drawn without a browser.

Text and lines take the colour of the text around them, so a picture reads on a light page and on a dark one.
"""

import re
from collections.abc import Iterator, Mapping
from xml.etree import ElementTree

#: Pixels of text, and of one of its characters on average.
TEXT, CHARACTER = 13, 7.2
#: The colour of text and lines where there is no text around.
INK = "#1f2328"
#: What XML cannot hold.
_CONTROL = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class Drawing:
    """A picture of so many pixels, with what it shows in words for those who do not see it."""

    def __init__(self, told: str, width: float, height: float) -> None:
        self.width, self.height = width, height
        self._root = ElementTree.Element(
            "svg",
            {
                **{"viewBox": f"0 0 {width:g} {height:g}", "width": f"{width:g}", "role": "img"},
                **{"font-family": "system-ui, sans-serif", "font-size": str(TEXT), "fill": "currentColor"},
            },
        )
        ElementTree.SubElement(self._root, "title").text = _CONTROL.sub("�", told)

    def add(self, tag: str, text: str = "", **attributes: float | str) -> None:
        """An element; ``_`` stands for ``-`` in the names of attributes. ``told`` is read under a mouse."""
        told = str(attributes.pop("told", ""))
        named = {
            name.replace("_", "-"): value if isinstance(value, str) else f"{value:.6g}"
            for name, value in attributes.items()
        }
        element = ElementTree.SubElement(self._root, tag, named)
        element.text = _CONTROL.sub("�", text)
        if told:
            ElementTree.SubElement(element, "title").text = _CONTROL.sub("�", told)

    def text(self, x: float, y: float, text: str, anchor: str = "start", **attributes: float | str) -> None:
        """``y`` is the middle of the line."""
        self.add("text", text, x=x, y=y, text_anchor=anchor, dominant_baseline="central", **attributes)

    def line(self, x1: float, y1: float, x2: float, y2: float, **attributes: float | str) -> None:
        stroke = attributes.pop("stroke", "currentColor")
        self.add("line", "", x1=x1, y1=y1, x2=x2, y2=y2, stroke=stroke, **attributes)

    def grid(self, x1: float, y1: float, x2: float, y2: float) -> None:
        self.line(x1, y1, x2, y2, stroke_opacity=0.15)

    def inline(self) -> str:
        """To stand in a page."""
        return ElementTree.tostring(self._root, encoding="unicode")

    def file(self) -> bytes:
        """To stand alone: on white, as slides and papers are."""
        size = {"xmlns": "http://www.w3.org/2000/svg", "height": f"{self.height:g}", "color": INK}
        root = ElementTree.Element("svg", self._root.attrib | size)
        ElementTree.SubElement(root, "rect", {"width": "100%", "height": "100%", "fill": "#ffffff"})
        root.extend(self._root)
        return ElementTree.tostring(root, encoding="unicode").encode()

    def elements(self) -> Iterator[tuple[str, str, Mapping[str, str]]]:
        """Tag, text and attributes of all that is drawn, the lowest first."""
        for element in self._root:
            if element.tag != "title":
                yield element.tag, element.text or "", element.attrib


def cut(text: str, characters: int) -> str:
    """The beginning of a text that is too long for its place."""
    return text if len(text) <= characters else f"{text[: characters - 1]}…"


def legend(drawing: Drawing, entries: dict[str, str], x: float, y: float) -> float:
    """Names beside their colours, in as many lines as they need; the height that they take."""
    at, line = x, 0
    for name, color in entries.items():
        wide = 26 + CHARACTER * len(name)
        if at > x and at + wide > drawing.width:
            at, line = x, line + 1
        middle = y + 10 + 20 * line
        drawing.add("rect", x=at, y=middle - 5, width=10, height=10, rx=2, fill=color)
        drawing.text(at + 15, middle, name)
        at += wide
    return 20.0 * (line + 1)
