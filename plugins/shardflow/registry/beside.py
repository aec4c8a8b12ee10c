"""Tells files that came beside a model after it was logged from those that it consists of, whatever they are called.

What comes later may change after the model was signed, so evidence is not about it. Hence it must be nothing that a
model is loaded from: no file that its MLmodel names; and because loaders find files in other ways as well, nothing but
text, which is no form that weights are kept in.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress

import yaml

MLMODEL = "MLmodel"
LARGEST, LARGEST_MLMODEL = 64 << 20, 4 << 20  # in bytes, of a text that is looked into here

_CONTROL = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def came_later(names: Collection[str], sizes: Mapping[str, int], content: Callable[[str], bytes]) -> frozenset[str]:
    """Which files of these names are no part of the model; `sizes` are those of all that are looked into and there."""
    there = [name for name in names if name in sizes]
    if not there or sizes.get(MLMODEL, 0) > LARGEST_MLMODEL:
        return frozenset()
    mlmodel = content(MLMODEL) if MLMODEL in sizes else b""
    text = (name for name in there if sizes[name] <= LARGEST and _is_text(content(name)))
    return frozenset(text) - _named(mlmodel, names)


def _named(mlmodel: bytes, names: Collection[str]) -> frozenset[str]:
    """Which of these names an MLmodel holds in any of its words. MLflow loads nothing by one that is no YAML."""
    found = set[str]()
    with suppress(yaml.YAMLError, UnicodeDecodeError):
        for event in yaml.parse(mlmodel.decode(), Loader=_LOADER):
            if isinstance(event, yaml.ScalarEvent):
                word = event.value.casefold()
                found.update(name for name in names if name.casefold() in word)
    return frozenset(found)


def _is_text(content: bytes) -> bool:
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return _CONTROL.search(content) is None
