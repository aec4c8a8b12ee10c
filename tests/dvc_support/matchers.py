"""What DVC's own tests compare with, as the fixture `M` that those of older releases ask for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any


class Unordered:
    """Equal to what has the same items in any order."""

    __hash__ = None  # type: ignore[assignment]

    def __init__(self, *items: Any) -> None:
        self._items = sorted(items)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Iterable) and sorted(other) == self._items


class Holding:
    """Equal to a mapping that holds these keys, and maybe others."""

    __hash__ = None  # type: ignore[assignment]

    def __init__(self, **keys: Any) -> None:
        self._keys = keys

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Mapping) and all(other.get(key) == value for key, value in self._keys.items())


class Matchers:
    """Under the names that the tests use."""

    unordered = Unordered
    dict = Holding
