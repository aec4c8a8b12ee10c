"""Patterns for names of modules as peft has them, looked for in a time that their length bounds.

peft gives them to `re`, which takes for ever over some that are a few letters long, and an adapter may come from
anywhere. So what is more than a name is followed here letter by letter, in all the ways at once in which it could fit.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import TypeAlias

MOST_LETTERS = 512
"""Of one pattern: names of modules are shorter."""
MOST_FOLLOWED = 4096
"""Letters of all patterns of a kind that are more than names."""

Fits: TypeAlias = Callable[[str], object]

_NAME = re.compile(r"\^?[\w.-]+")  # one that `re` can do no harm with
_CLASS = re.compile(r"\[\^?\]?(?:\\.|[^\]\\])*\]", re.DOTALL)
_ESCAPE = re.compile(r"\\(?:[dDsSwW]|[^\w\s])", re.ASCII)
_QUANTIFIERS = frozenset("*+?{")

# Which letters fit; or the distances of steps to go on with; or `^` or `$`.
_Step: TypeAlias = "Fits | tuple[int, ...] | str"


class PatternUnusable(ValueError):
    """It is none, or of a kind that is not looked for."""


class ByPattern:
    """Values for modules by patterns of their names, of which the first that fits counts."""

    def __init__(self, values: Mapping[str, float]) -> None:
        if sum(len(pattern) for pattern in values if not _NAME.fullmatch(pattern)) > MOST_FOLLOWED:
            raise PatternUnusable(f"those that are more than names have over {MOST_FOLLOWED} letters")
        self._values = [(fitting(pattern), value) for pattern, value in values.items()]

    def of(self, name: str, usual: float) -> float:
        return next((value for fits, value in self._values if fits(name)), usual)


def fitting(pattern: str) -> Fits:
    """Tells whether a name is one of a pattern's, which are those that end in it, a whole part of them."""
    if len(pattern) > MOST_LETTERS:
        raise PatternUnusable(f"{pattern[:40]!r}... is longer than {MOST_LETTERS} letters")
    whole = rf"(.*\.)?({pattern})"
    try:
        return re.compile(whole).fullmatch if _NAME.fullmatch(pattern) else _Expression(_Parser(whole).steps()).fits
    except (re.error, RecursionError, PatternUnusable) as error:
        raise PatternUnusable(f"{pattern!r}: {error}") from None


class _Expression:
    def __init__(self, steps: list[_Step]) -> None:
        self._steps = steps

    def fits(self, name: str) -> bool:
        last = len(name) - name.endswith("\n")  # `$` is before a line's end as well
        reached = self._reached([0], begins=True, ends=last == 0)
        for number, letter in enumerate(name, 1):
            beyond = [at + 1 for at in reached if at < len(self._steps) and self._takes(at, letter)]
            reached = self._reached(beyond, begins=False, ends=number >= last)
        return len(self._steps) in reached

    def _takes(self, at: int, letter: str) -> bool:
        step = self._steps[at]
        return callable(step) and bool(step(letter))

    def _reached(self, starts: Iterable[int], *, begins: bool, ends: bool) -> set[int]:
        """Each step that can come next, once."""
        reached: set[int] = set()
        left = list(starts)
        while left:
            at = left.pop()
            if at in reached:
                continue
            reached.add(at)
            step = self._steps[at] if at < len(self._steps) else ()
            if isinstance(step, tuple):
                left += [at + distance for distance in step]
            elif (step == "^" and begins) or (step == "$" and ends):
                left.append(at + 1)
        return reached


class _Parser:
    """Letters, `.`, classes, groups, `|`, `^`, `$`, and of quantifiers `*`, `+` and `?`; all else is refused."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def steps(self) -> list[_Step]:
        steps = self._alternatives()
        if self._at < len(self._text):
            raise PatternUnusable("a bracket is closed that was not opened")
        return steps

    def _alternatives(self) -> list[_Step]:
        one = self._sequence()
        if not self._took("|"):
            return one
        other = self._alternatives()
        return [(1, len(one) + 2), *one, (len(other) + 1,), *other]

    def _sequence(self) -> list[_Step]:
        steps: list[_Step] = []
        while self._at < len(self._text) and self._text[self._at] not in "|)":
            steps += self._repeated(self._one())
        return steps

    def _repeated(self, one: list[_Step]) -> list[_Step]:
        many = len(one)
        if self._took("*"):
            steps = [(1, many + 2), *one, (-many - 1,)]
        elif self._took("+"):
            steps = [*one, (-many, 1)]
        elif self._took("?"):
            steps = [(1, many + 1), *one]
        else:
            steps = one
        if steps is not one:
            self._took("?")  # as few as can be: which names fit stays the same
        if self._text[self._at : self._at + 1] in _QUANTIFIERS:
            raise PatternUnusable("of quantifiers only *, + and ? are looked for, one after each thing")
        return steps

    def _one(self) -> list[_Step]:
        if self._took("("):
            if not self._took("?:") and self._took("?"):
                raise PatternUnusable("of what begins with (? only (?: is looked for")
            steps = self._alternatives()
            if not self._took(")"):
                raise PatternUnusable("a bracket is not closed")
            return steps
        for kind in (_CLASS, _ESCAPE):
            if found := kind.match(self._text, self._at):
                self._at = found.end()
                return [re.compile(found[0]).fullmatch]
        letter = self._text[self._at]
        if letter in "[\\" or letter in _QUANTIFIERS:
            raise PatternUnusable(f"{letter!r} has no meaning there that is looked for")
        self._at += 1
        if letter in "^$":
            return [letter]
        return [re.compile(".").fullmatch if letter == "." else letter.__eq__]

    def _took(self, text: str) -> bool:
        taken = self._text.startswith(text, self._at)
        self._at += len(text) * taken
        return taken
