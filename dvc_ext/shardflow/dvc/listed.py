"""Keeps DVC from taking half a list of files for the whole one.

What a push or a pull is about, DVC lists in a database, and what is there already it does not list again. A command
that ends while it lists, by Ctrl-C or in any other way, leaves a part, and the next one would send no more than that.
So a list that is complete gets a mark beside it, and one without a mark is made anew.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from fsspec.utils import tokenize

if TYPE_CHECKING:
    from types import ModuleType

PROTOCOL = "shardflow"
MARKS = "shardflow-complete"

Key = tuple[str, ...]


def complete(module: ModuleType) -> None:
    """Have `dvc_data.index.fetch` make the lists for our remotes so; those for others are left as they are."""
    collect: Callable[..., Any] = module.collect
    if getattr(collect, "knows", "") == PROTOCOL:
        return

    def collect_all(
        idxs: Any, storage: str, *others: Any, cache_index: Any = None, cache_key: Key = (), **options: Any
    ) -> Any:
        if cache_index is None:
            return collect(idxs, storage, *others, **options)
        lists = {(*cache_key, *key): (*cache_key, MARKS, *key) for key in _lists(idxs, storage)}
        _forget_parts(cache_index, lists)
        collected = collect(idxs, storage, *others, cache_index=cache_index, cache_key=cache_key, **options)
        _mark(cache_index, lists)
        return collected

    collect_all.knows = PROTOCOL  # type: ignore[attr-defined]
    module.collect = collect_all  # type: ignore[attr-defined]


def _lists(idxs: Iterable[Any], storage: str) -> set[Key]:
    """The names that DVC gives to the lists for our remotes."""
    places = [getattr(info, storage) for idx in idxs for _, info in idx.storage_map.items()]
    return {(PROTOCOL, tokenize(place.path)) for place in places if place and place.fs.protocol == PROTOCOL}


def _forget_parts(index: Any, lists: dict[Key, Key]) -> None:
    parts = [
        key for each, mark in lists.items() if index.has_node(each) != index.has_node(mark) for key in (each, mark)
    ]
    for key in parts:
        if index.has_node(key):
            index.delete_node(key)
    if parts:
        index.commit()
        index.close()  # it opens again when it is used, without what it remembers of these


def _mark(index: Any, lists: dict[Key, Key]) -> None:
    from dvc_data.index import DataIndexEntry  # noqa: PLC0415  # not yet there where the lists are completed

    new = [mark for each, mark in lists.items() if index.has_node(each) and not index.has_node(mark)]
    for mark in new:
        index[mark] = DataIndexEntry(key=mark, loaded=True)
    if new:
        index.commit()
