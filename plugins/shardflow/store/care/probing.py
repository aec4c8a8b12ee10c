"""Examines one store from here: whether it can be reached and used, and what its provider really does."""

from __future__ import annotations

import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from shardflow.errors import ShardflowError
from shardflow.store.care.finding import Finding, looked_at, size_text, time_text
from shardflow.store.care.leftovers import ABANDONED_SECONDS, DAMAGED, PROBES
from shardflow.store.care.problems import counted
from shardflow.store.config import FORMAT, Operation, StoreConfig
from shardflow.store.location import Options
from shardflow.store.store import Store
from shardflow.store.tombstones import tombstones
from shardflow.transport import AccessDenied, AlreadyThere, Changed, StoreURL, Transport, connect

PROBE_BYTES = 4096
CLOCKS_APART_SECONDS = 300.0  # much more, and providers refuse signed requests
OVERDUE_GRACES = 7
FREE_ENOUGH = 1 << 30
OPERATIONS: tuple[Operation, ...] = ("read", "write", "delete")
GRACE_PROTECTS = "nothing: the grace period of collections protects writers without it"

Look = Callable[[Transport], Finding]


def store_findings(url: str, options: Options = None) -> Iterator[Finding]:
    """Each thing in turn; what makes the rest pointless ends it."""
    reachable = looked_at("reachable", lambda: _reachable(url, options))
    yield reachable
    if not reachable.ok:
        return
    try:
        store, _ = Store.find(url, options)
    except ShardflowError as error:
        yield Finding("store", False, error.message, error.remedy)
        return
    yield _about(store.config)
    for operation in OPERATIONS:
        yield looked_at(operation, partial(_allowed, store, operation))
    yield looked_at("set aside", lambda: _set_aside(store))
    for name, look in _LOOKS.items():
        yield looked_at(name, partial(look, store.transport))


def _reachable(url: str, options: Options) -> Finding:
    where = StoreURL.parse(url)
    started = time.monotonic()
    try:
        connect(where, options).list_names("")
    except AccessDenied as error:
        return Finding("credentials", False, error.message, error.remedy)
    return Finding("reachable", True, f"{where} answers in {_milliseconds(started)}")


def _about(config: StoreConfig) -> Finding:
    needed = sorted({feature for features in config.requires.values() for feature in features})
    what = f"format {config.format} of {FORMAT}, id {config.id}, needs {', '.join(needed) or 'no special features'}"
    return Finding("store", config.format <= FORMAT, what, "" if config.format <= FORMAT else "upgrade Shardflow")


def _allowed(store: Store, operation: Operation) -> Finding:
    store.config.check(operation, str(store.url))
    return Finding(operation, True, f"this version knows all that is needed to {operation}")


def _set_aside(store: Store) -> Finding:
    """Packs that wait to be deleted; they wait for ever if no collection is run again."""
    waiting = [found for found in tombstones(store.transport) if not found.released]
    if not waiting:
        return Finding("set aside", True, "no packs wait to be deleted")
    now, grace = store.transport.clock(), store.config.settings.gc_grace_seconds
    age = max(now - found.written for found in waiting)
    packs = {doomed.pack: doomed.size for found in waiting for doomed in found.packs}
    held = f"{counted(len(packs), 'pack')} ({size_text(sum(packs.values()))})"
    what = f"{held} waiting to be deleted, the first for {time_text(age)}"
    overdue = age > OVERDUE_GRACES * max(grace, ABANDONED_SECONDS)
    return Finding("set aside", None if overdue else True, what, "run 'shardflow gc'" if overdue else "")


def _round_trip(transport: Transport) -> Finding:
    with _probe(transport) as key:
        data = secrets.token_bytes(PROBE_BYTES)
        started = time.monotonic()
        transport.write(key, data)
        write, started = _milliseconds(started), time.monotonic()
        if bytes(transport.read(key)) != data:
            return Finding("round trip", False, "what was read is not what was written", "trust no data to this store")
        return Finding("round trip", True, f"{PROBE_BYTES} bytes written in {write}, read in {_milliseconds(started)}")


def _conditional_create(transport: Transport) -> Finding:
    name = "conditional create"
    with _probe(transport) as key:
        transport.write(key, b"first", if_absent=True)
        try:
            transport.write(key, b"second", if_absent=True)
        except AlreadyThere:
            return Finding(name, True, "an object that exists is not written over")
        return Finding(name, False, "an object was written over on condition that there was none", _USE_ANOTHER)


def _conditional_update(transport: Transport) -> Finding:
    name = "conditional update"
    with _probe(transport) as key:
        transport.write(key, b"first")
        first = transport.head(key).etag
        transport.write(key, b"second", if_match=first)
        try:
            transport.write(key, b"third", if_match=first)
        except Changed:
            return Finding(name, True, "an object is replaced only if it is the version expected")
        return Finding(name, False, "an object was replaced although it had changed", _USE_ANOTHER)


def _conditional_delete(transport: Transport) -> Finding:
    if transport.conditional_deletes:
        return Finding("conditional delete", True, "an object is deleted only if it is the version expected")
    what = "the provider deletes without comparing versions, so Shardflow compares before"
    return Finding("conditional delete", None, what, GRACE_PROTECTS)


def _clock(transport: Transport) -> Finding:
    before = time.time()
    there = transport.clock()
    apart = there - (before + time.time()) / 2
    ok = abs(apart) < CLOCKS_APART_SECONDS
    what = f"the store's clock is {abs(apart):.1f} s {'ahead of' if apart > 0 else 'behind'} this machine's"
    return Finding("clock", ok, what, "" if ok else "set this machine's clock")


def _unfinished(transport: Transport) -> Finding:
    """What killed programs and repairs left."""
    temporaries = transport.stale_temporaries(ABANDONED_SECONDS)
    care = list(transport.list("care/"))
    damaged = [info for info in care if info.key.startswith(DAMAGED)]
    probes = [info for info in care if info.key.startswith(PROBES) and info.modified < time.time() - ABANDONED_SECONDS]
    what = (
        f"{counted(len(temporaries), 'unfinished file')} ({size_text(sum(info.size for info in temporaries))}), "
        f"{counted(len(probes), 'old probe')}, {counted(len(damaged), 'damaged pack')} kept for a look "
        f"({size_text(sum(info.size for info in damaged))})"
    )
    if transport.url.backend == "s3":
        remedy = "let a lifecycle rule of the bucket abort incomplete multipart uploads, which are not listed here"
        return Finding("unfinished", None, what, remedy)
    left = bool(temporaries or probes)
    return Finding("unfinished", None if left else True, what, "run 'shardflow gc', which removes them" if left else "")


def _space(transport: Transport) -> Finding:
    if transport.url.backend != "file":
        return Finding("space", None, f"{transport.url.backend} stores do not tell how much is free")
    free = shutil.disk_usage(Path(transport.url.path)).free
    low = free < FREE_ENOUGH
    return Finding("space", None if low else True, f"{size_text(free)} are free", "free some space" if low else "")


@contextmanager
def _probe(transport: Transport) -> Iterator[str]:
    """A key to try things with, free again in the end, whatever happened with it."""
    key = f"care/probe-{secrets.token_hex(8)}"
    try:
        yield key
    finally:
        with suppress(ShardflowError):
            transport.delete(key)


def _milliseconds(since: float) -> str:
    return f"{1000 * (time.monotonic() - since):.0f} ms"


_USE_ANOTHER = "use another provider: writers could undo each other's work here"
_LOOKS: dict[str, Look] = {
    "round trip": _round_trip,
    "conditional create": _conditional_create,
    "conditional update": _conditional_update,
    "conditional delete": _conditional_delete,
    "clock": _clock,
    "unfinished": _unfinished,
    "space": _space,
}
