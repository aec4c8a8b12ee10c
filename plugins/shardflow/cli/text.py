"""Text for a terminal: names that cannot play tricks on it, and columns that line up."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def printable(text: str) -> str:
    """Control characters and undecodable bytes as escapes: a file name must not move the cursor or fake a line."""
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else _escaped(character) for character in text)


def columns(rows: Iterable[Sequence[str]], align: str) -> list[str]:
    """Rows as lines; `align` has one of `<` and `>` for each column. The last column is not padded."""
    rows = list(rows)
    if not rows:
        return []
    widths = [max(len(row[index]) for row in rows) for index in range(len(align))]
    return [
        "  ".join(f"{cell:{side}{width}}" for cell, side, width in zip(row, align, widths, strict=True)).rstrip()
        for row in rows
    ]


def facts(pairs: Iterable[tuple[str, str]]) -> list[str]:
    """Names and values, one pair a line, the values in one column."""
    return columns(pairs, "<<")


def _escaped(character: str) -> str:
    if "\udc80" <= character <= "\udcff":
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape").decode("ascii")
