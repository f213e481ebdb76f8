"""Bytes, shares and seconds as text, by one convention: 1 GiB = 1024³ B, always written with the binary prefix."""

import re

_PREFIXES = ("B", "KiB", "MiB", "GiB", "TiB")


def bytes_text(count: float) -> str:
    """``16336896`` → ``'15.6 MiB'``; whole bytes below 1 KiB."""
    value, index = float(count), 0
    while abs(value) >= 1024 and index < len(_PREFIXES) - 1:
        value, index = value / 1024, index + 1
    return (
        f"{value:.0f} B"
        if index == 0
        else f"{value:.3g} {_PREFIXES[index]}"
        if abs(value) < 1000
        else (f"{value:.0f} {_PREFIXES[index]}")
    )


def seconds_text(seconds: float) -> str:
    """``0.0123`` → ``'12 ms'``, ``75`` → ``'1 min 15 s'``."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s"


def number_text(value: float) -> str:
    """Three significant digits; scientific below 0.001 and from a million on."""
    if value == 0:
        return "0"
    if abs(value) < 1e-3 or abs(value) >= 1e6:
        return f"{value:.2e}".replace("e-0", "e-").replace("e+0", "e")
    return f"{value:,.3g}" if abs(value) < 1000 else f"{value:,.0f}"


_COUNT = re.compile(r"(\d{1,9}(?:\.\d{1,3})?|\d{1,3}(?:,\d{3})+)\s*(k|m|)", re.ASCII | re.IGNORECASE)


def parse_count(text: str) -> int | None:
    """A number of tokens as people write it, ``"8192"``, ``"8,192"``, ``"8k"`` (8 · 1024); None where it is none."""
    found = _COUNT.fullmatch(text.strip())
    if not found:
        return None
    count = float(found[1].replace(",", "")) * 1024 ** ("", "k", "m").index(found[2].lower())
    return int(count) if count.is_integer() else None
