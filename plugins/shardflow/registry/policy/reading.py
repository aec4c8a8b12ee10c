"""Reads YAML as values that still know where they stand, so that every complaint names a line and a column.

Anchors and aliases are refused: a policy has no use for them, and with them a short file can stand for an endless one.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from typing import NoReturn, TypeVar

import yaml

from shardflow.registry.policy.errors import PolicyInvalid

MOST_CHARACTERS = 1 << 20
DEEPEST = 20

_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*([smhdw])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_STRING, _INT, _FLOAT, _BOOL = (f"tag:yaml.org,2002:{kind}" for kind in ("str", "int", "float", "bool"))

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Place:
    """A value in a policy file."""

    file: str
    node: yaml.Node

    def wrong(self, problem: str, remedy: str = "") -> NoReturn:
        mark = self.node.start_mark
        raise PolicyInvalid(self.file, mark.line + 1, mark.column + 1, problem, remedy=remedy)

    def at(self, node: yaml.Node) -> Place:
        return Place(self.file, node)

    def entries(self, *known: str) -> dict[str, Place]:
        """The values of a mapping by their keys, all of which must be among the known ones."""
        found = {key: value for key, _, value in self._pairs()}
        for key, place, _ in self._pairs():
            if key not in known:
                near = get_close_matches(key, known, 1)
                place.wrong(
                    f"{key!r} means nothing here",
                    f"did you mean {near[0]!r}?" if near else f"write one of: {', '.join(known)}",
                )
        return found

    def named(self) -> dict[str, Place]:
        """The values of a mapping whose keys are names that the author chose."""
        return {key: value for key, _, value in self._pairs()}

    def key_places(self) -> dict[str, Place]:
        """Where the keys themselves stand."""
        return {key: place for key, place, _ in self._pairs()}

    def items(self) -> list[Place]:
        """What a list holds; a single value counts as a list of one."""
        if isinstance(self.node, yaml.SequenceNode):
            return [self.at(node) for node in self.node.value]
        return [self]

    def texts(self) -> tuple[str, ...]:
        return tuple(item.text() for item in self.items())

    def text(self) -> str:
        node = self._scalar("a text")
        if node.tag != _STRING or not node.value.strip():
            self.wrong(f"{node.value!r} is not a text", "put it in quotes" if node.value.strip() else "write one")
        return str(node.value)

    def number(self) -> float:
        node = self._scalar("a number")
        value = _number(node) if node.tag in {_INT, _FLOAT} else math.nan
        if not math.isfinite(value):
            self.wrong(f"{node.value!r} is not a number")
        return value

    def whole(self, least: int) -> int:
        value = self.number()
        if value != int(value) or value < least:
            self.wrong(f"{self.node.value} is not a whole number of at least {least}")
        return int(value)

    def truth(self) -> bool:
        node = self._scalar("true or false")
        if node.tag != _BOOL:
            self.wrong(f"{node.value!r} is neither true nor false")
        return bool(yaml.SafeLoader("").construct_object(node))

    def is_truth(self) -> bool:
        return isinstance(self.node, yaml.ScalarNode) and self.node.tag == _BOOL

    def duration(self) -> float:
        node = self._scalar("a time such as 24h or 7d")
        found = _DURATION.fullmatch(str(node.value).strip())
        if not found:
            self.wrong(f"{node.value!r} is not a time", "write a number and s, m, h, d or w, such as 24h")
        return float(found[1]) * _SECONDS[found[2]]

    def choice(self, choices: Callable[[str], T], words: tuple[str, ...]) -> T:
        """One of a few words, as what it stands for."""
        word = self.text()
        if word not in words:
            near = get_close_matches(word, words, 1)
            self.wrong(
                f"{word!r} is not one of {', '.join(words)}", f"did you mean {near[0]!r}?" if near else "write one"
            )
        return choices(word)

    def _scalar(self, wanted: str) -> yaml.ScalarNode:
        if not isinstance(self.node, yaml.ScalarNode):
            self.wrong(f"this is a {_kind(self.node)} where {wanted} belongs")
        return self.node

    def _pairs(self) -> Iterator[tuple[str, Place, Place]]:
        if not isinstance(self.node, yaml.MappingNode):
            self.wrong(f"this is a {_kind(self.node)} where keys and values belong")
        seen: set[str] = set()
        for key, value in self.node.value:
            place = self.at(key)
            name = place._scalar("a key").value  # noqa: SLF001  # another of this class
            if name in seen:
                place.wrong(f"{name!r} is here twice", "keep one of them")
            seen.add(name)
            yield name, place, self.at(value)


def read(text: str, file: str) -> Place:
    """The whole of a policy."""
    if len(text) > MOST_CHARACTERS:
        raise PolicyInvalid(file, 1, 1, f"a policy of {len(text):,} characters is not one that people wrote")
    try:
        _refuse_aliases(text, file)
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.reader.ReaderError as error:
        before = text[: error.position]
        line, column = before.count("\n") + 1, error.position - before.rfind("\n")
        raise PolicyInvalid(file, line, column, "there is a character that YAML has no place for") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        raise PolicyInvalid(file, line, column, f"this is not YAML: {error.problem or error.context}") from None
    if node is None:
        raise PolicyInvalid(file, 1, 1, "the file is empty", remedy="write 'rules: []' to allow every move")
    return Place(file, node)


def _refuse_aliases(text: str, file: str) -> None:
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        mark = event.start_mark
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise PolicyInvalid(file, mark.line + 1, mark.column + 1, "a policy has no anchors", remedy="write it out")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST:
            raise PolicyInvalid(file, mark.line + 1, mark.column + 1, "this is nested too deep")


def _number(node: yaml.ScalarNode) -> float:
    try:
        return float(yaml.SafeLoader("").construct_object(node))
    except (ValueError, OverflowError):  # 0b_ looks like a number, too
        return math.nan


def _kind(node: yaml.Node) -> str:
    if isinstance(node, yaml.MappingNode):
        return "mapping"
    return "list" if isinstance(node, yaml.SequenceNode) else "single value"
