"""Text that every database keeps: PostgreSQL has no room for a zero byte, and nothing for half a surrogate."""

from __future__ import annotations

import unicodedata
from typing import overload

_NO_LETTERS = frozenset({"Cc", "Cs"})
_LAYOUT = frozenset("\n\t")
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


@overload
def legible(text: str) -> str: ...
@overload
def legible(text: None) -> None: ...
def legible(text: str | None) -> str | None:
    """A text with a mark in the place of control characters; line breaks and tabs stay."""
    if text is None or text.isprintable():
        return text
    return "".join(letter if _is_kept(letter) else _REPLACEMENT for letter in text)


def is_legible_line(text: str) -> bool:
    """Whether a text is one line that can be kept as it is."""
    return all(unicodedata.category(letter) not in _NO_LETTERS for letter in text)


def _is_kept(letter: str) -> bool:
    return letter in _LAYOUT or unicodedata.category(letter) not in _NO_LETTERS
