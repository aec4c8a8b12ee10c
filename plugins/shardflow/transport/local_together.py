"""Many small objects of the `file` backend at once: written beside, forced together, then put in place.

No name appears before all of the objects are on the disk, and the call returns when all names are there as well: the
order is that of a single write, but the disk is waited for twice, however many they are.
"""

from __future__ import annotations

import os
import secrets
from contextlib import nullcontext, suppress
from functools import partial
from typing import TYPE_CHECKING

from shardflow.transport.errors import TransportError
from shardflow.transport.info import Condition
from shardflow.transport.local_lock import locked

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

    from shardflow.transport.info import NewObject
    from shardflow.transport.local import LocalFiles
    from shardflow.transport.local_forcing import Disk

_ABSENT = Condition(absent=True)


class FilesTogether:
    """Writes of many files below one root."""

    most = 256

    def __init__(self, files: LocalFiles, disk: Disk) -> None:
        self._files = files
        self._disk = disk

    def write(self, objects: Sequence[NewObject]) -> list[Exception | None]:
        """What each object failed with; None where it is in place and on the disk."""
        temporaries: list[str] = []
        try:
            self._files.make_directory(self._files.incoming)
            with self._watched() as force:
                self._write_temporaries(objects, temporaries)
                force(temporaries)
                failures, changed = self._put_in_place(objects, temporaries)
                force(sorted(changed))
        except OSError as error:
            # Of a full disk, say. What is in place by now is whole, but nobody knows whether it is on the disk.
            failures = [error] * len(objects)
        finally:
            _remove_left(temporaries)
        return failures

    def _watched(self) -> AbstractContextManager[Callable[[Sequence[str]], None]]:
        """What forces files that are written in its block."""
        return self._disk.watched(self._files.incoming) if self._files.durable else nullcontext(_leave)

    def _write_temporaries(self, objects: Sequence[NewObject], temporaries: list[str]) -> None:
        beginning = f"{self._files.incoming}/{os.getpid()}-{secrets.token_hex(8)}"
        for number, each in enumerate(objects):
            temporaries.append(f"{beginning}-{number}.part")
            self._files.write_temporary(temporaries[-1], each.data, force=False)

    def _put_in_place(
        self, objects: Sequence[NewObject], temporaries: list[str]
    ) -> tuple[list[Exception | None], set[str]]:
        """What each failed with, and the directories that have new names in them; forgets what is in place."""
        failures: list[Exception | None] = [None] * len(objects)
        changed: set[str] = set()
        # Creating needs no lock; those who replace share one, taken once for all of them.
        for creates, lock in ((True, nullcontext()), (False, locked(self._files.incoming, alone=False))):
            with lock:
                for number in (number for number, each in enumerate(objects) if each.if_absent is creates):
                    try:
                        changed.update(self._put(temporaries[number], objects[number]))
                        temporaries[number] = ""
                    except (OSError, TransportError) as error:
                        failures[number] = error
        return failures, changed

    def _put(self, temporary: str, new: NewObject) -> list[str]:
        target = f"{self._files.root}/{new.key}"
        if new.if_absent:
            return self._files.put_in_place(temporary, target, _ABSENT)
        return self._files.in_directory(target, partial(os.rename, temporary, target))


def _leave(_: Sequence[str]) -> None:
    """Force nothing: the user has chosen speed over what survives a power failure."""


def _remove_left(temporaries: list[str]) -> None:
    for temporary in filter(None, temporaries):
        with suppress(OSError):
            os.unlink(temporary)
