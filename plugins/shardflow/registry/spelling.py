"""Tells a reserved name from a free one however it is spelt: to many a database Prodüction is production.

MySQL and MariaDB compare names by a collation, which passes over case, accents and the width of letters. What they
would take for a reserved name is one, on every database.
"""

from __future__ import annotations

import re
import unicodedata

_ANY_LETTERS = "?"  # no name of MLflow has it


def plain(name: str) -> str:
    """A name in small letters without accents; a `?` where a letter stands that collations read in different ways."""
    letters = unicodedata.normalize("NFKD", name.strip())
    return "".join(_plain(letter) for letter in letters if not unicodedata.combining(letter)).lower()


def is_spelt(name: str, word: str) -> bool:
    """Whether a name is this word to some database."""
    return _could_be(plain(name), word)


def begins_spelt(name: str, word: str) -> bool:
    """Whether a name begins with this word to some database."""
    found = plain(name)
    return any(_could_be(found[:end], word) for end in range(len(word) // 2, len(word) + 1))


def _could_be(found: str, word: str) -> bool:
    if _ANY_LETTERS not in found:
        return found == word
    return re.fullmatch(re.escape(found).replace(re.escape(_ANY_LETTERS), ".{1,2}"), word) is not None


def _plain(letter: str) -> str:
    if letter.isascii():
        return letter
    digit = unicodedata.decimal(letter, None)
    if digit is not None:
        return str(digit)
    return _ANY_LETTERS if "LATIN" in unicodedata.name(letter, "") else letter
