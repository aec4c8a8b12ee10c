"""Patterns of models' names, in which only `*` stands for other letters: names may have brackets and question marks."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase

_SPECIAL_ELSEWHERE = re.compile(r"[?\[]")


def matches(name: str, pattern: str) -> bool:
    """Whether a model's name is one of those that a pattern stands for."""
    return fnmatchcase(name, _SPECIAL_ELSEWHERE.sub(r"[\g<0>]", pattern))
