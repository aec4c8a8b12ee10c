"""Notes of files that lack something, for programs that ask only whether a file is there.

A repair leaves a note for each file that it could not make whole. Who keeps files elsewhere takes what is noted for not
there, puts it again and removes the note. A note that nobody removed costs a put of what is there already.
"""

from __future__ import annotations

from collections.abc import Iterable

from blake3 import blake3

from shardflow.store.parallel import in_parallel
from shardflow.transport import Transport

LACKING = "care/lacking/"


def note_of(key: str) -> str:
    """The key of the note about a manifest; it holds the manifest's key."""
    return LACKING + blake3(key.encode()).hexdigest()


def notes(transport: Transport) -> set[str]:
    """The keys of all notes."""
    return {info.key for info in transport.list(LACKING)}


def note_lacking(transport: Transport, keys: Iterable[str], *, all_known: bool) -> None:
    """Note that the files of these manifests lack something; with `all_known`, that no others do."""
    wanted = {note_of(key): key for key in keys}
    there = notes(transport)
    new = sorted(wanted.keys() - there)
    for _ in in_parallel(lambda note: transport.write(note, wanted[note].encode()), new):
        pass
    for _ in in_parallel(transport.delete, sorted(there - wanted.keys()) if all_known else ()):
        pass
