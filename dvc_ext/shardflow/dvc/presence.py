"""Which of many paths exist: by asking for each, or by listing, whichever takes fewer requests."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from itertools import islice

from shardflow.store.parallel import in_parallel
from shardflow.store.paths import key_of
from shardflow.store.store import Store
from shardflow.transport import ObjectMissing

FEW = 64
LISTED_FOR_ONE = 50
"""Names that may be listed for each that is asked for: a page of a thousand costs about as much as twenty questions."""


def present(store: Store, paths: Sequence[str]) -> list[bool]:
    """For each path whether there is a file of that name."""
    keys = [key_of(path) for path in paths]
    if len(keys) <= FEW:
        return list(in_parallel(lambda key: _is_there(store, key), keys))
    known = _listed(store, keys)
    unknown = [key for key in keys if key not in known]
    known |= dict(zip(unknown, in_parallel(lambda key: _is_there(store, key), unknown), strict=True))
    return [known[key] for key in keys]


def _listed(store: Store, keys: Sequence[str]) -> dict[str, bool]:
    """What listings tell of keys: all, or as many as could be listed for the price of asking."""
    known: dict[str, bool] = {}
    allowance = LISTED_FOR_ONE * len(keys)
    for directory, wanted in _by_directory(keys).items():
        seen, last = 0, ""
        for info in islice(store.transport.list(directory), allowance):
            seen, last = seen + 1, info.key
            if info.key in wanted:
                known[info.key] = True
        whole = seen < allowance
        allowance -= seen
        # Listings are in order: what should have come by now and did not is not there.
        known |= {key: False for key in wanted if key not in known and (whole or key < last)}
    return known


def _by_directory(keys: Sequence[str]) -> dict[str, set[str]]:
    """Keys by a directory that holds them: DVC's 256 directories of objects lie in one."""
    found: dict[str, set[str]] = defaultdict(set)
    for key in keys:
        found["/".join(key.split("/")[:-2]) + "/"].add(key)
    return found


def _is_there(store: Store, key: str) -> bool:
    try:
        store.transport.head(key)
    except ObjectMissing:
        return False
    return True
