"""What the caller of a put asks for, beside that it be stored."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from shardflow.delta.adapters import Adapter
from shardflow.store.bases import Held


@dataclass(frozen=True, slots=True)
class Wishes:
    """All of them have an answer for who asks for nothing."""

    replace: bool = True  # what is stored under the same name with other content
    deltas: bool = True
    base: str | None = None  # a path in the store: the file to code against, or the directory that has it
    adapter: Adapter | None = None  # what was merged into the base
    merges: bool = True  # look for adapters that were merged into the base
    md5: bool = False  # noted in the manifest, for programs that know files by it
    parts_of: Sequence[str] = ()  # paths of stored files that the new ones are put together from
    held: Mapping[str, Held] = field(default_factory=dict)  # bases that are in memory still, by their paths
    beside: bool = False  # the program works on meanwhile: half of the cores are left to it
    before_visible: Callable[[], None] | None = None  # is called once all has arrived, and nothing is visible before it
