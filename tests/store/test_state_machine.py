"""Writers, collectors, readers and crashes in any order, against a dictionary: what is reachable always verifies.

Time is the world's: it passes between steps, also while programs are stopped in the middle of a put, of a collection or
of a repacking. Each run draws other examples; the header of CI's run tells the seed that draws the same ones again.
"""

from __future__ import annotations

import contextlib
import itertools
import tempfile
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from faults.crashing import Fate
from faults.pausing import Program, Stop
from shardflow.store import commit, hints
from shardflow.store.care import gc, moving, timing
from shardflow.store.care.fsck import check
from shardflow.store.care.gc import collect
from shardflow.store.care.repack import repack
from shardflow.store.config import Cutting, Settings
from shardflow.store.errors import PackMissing, PathMissing
from shardflow.store.reader import Reader
from shardflow.store.store import Store
from store.care.world import DAY, HOUR, TimedTransport, World, WorldTransport
from store.versions import alike, version

SMALL = Settings(
    pack_bytes=16 << 10,
    chunk_bytes=4 << 10,
    inline_bytes=256,
    gc_grace_seconds=DAY,
    cutting=Cutting(minimum=256, mean=1024, maximum=4096),
)
LONGEST_CHANGE = 20 * HOUR
"""How long one request may be under way: with what is looked at before it, less than the grace period."""

NAMES = st.sampled_from(["a", "d/b"])
SOME = [version(0), version(1), alike(0, 20_000)]
CONTENTS = st.sampled_from([None, *SOME])
"""Few, so that what was removed comes back before, while and after its packs are collected."""

_numbers = itertools.count()


def deaths() -> st.SearchStrategy[Fate]:
    """Mostly none."""
    return st.builds(Fate, st.sampled_from([None] * 25 + [1, 2, 3, 4, 5]))


def stops(*changes: tuple[str, int]) -> st.SearchStrategy[Stop | None]:
    """Nowhere, or before the first or a later change below a prefix."""
    return st.sampled_from([*changes, *[None] * len(changes)]).map(lambda change: Stop(*change) if change else None)


@dataclass
class Paused:
    """A program that is stopped; a put is seen by others from its hints on, which follow the manifest."""

    program: Program
    ends_before: float  # by the world's clock
    name: str | None
    content: bytes


class StoreMachine(RuleBasedStateMachine):
    """Up to two programs are stopped in the middle while others run from beginning to end."""

    transport: ClassVar[type[TimedTransport]]

    @abstractmethod
    def place(self) -> str:
        """The URL of a new store."""

    @initialize(contents=st.permutations(SOME))
    def make(self, contents: list[bytes]) -> None:
        """A store in use, one of whose files was replaced so long ago that its packs are set aside."""
        self.directory = tempfile.TemporaryDirectory()
        self.home = Path(self.directory.name).resolve()
        self.world = World(Store.init(self.place(), SMALL), self.transport)
        self.store = self.world.store
        self.model: dict[str, bytes] = {}
        self.held: list[tuple[str, Reader, bytes]] = []
        self.paused: list[Paused] = []
        self.patch = pytest.MonkeyPatch()
        self.patch.setenv("SHARDFLOW_STATE", str(self.home / "state"))
        self.patch.setattr(hints, "MIN_HINTED_BYTES", 8 << 10)
        for module in (commit, gc, moving, timing):
            self.patch.setattr(module, "seconds", lambda: self.world.clock.now)
        for name, content in zip(["a", "d/b", "a"], contents, strict=True):
            self.put(name, content, Fate(), None)
        self.care(collect, 25, Fate(), None)

    @rule(
        name=NAMES,
        content=CONTENTS,
        fate=deaths(),
        stop=stops(("tree/", 1), ("packs/", 1), ("packs/", 2), ("hints/", 1)),
    )
    def write(self, name: str, content: bytes | None, fate: Fate, stop: Stop | None) -> None:
        if content is None:
            self.remove(name)
        else:
            self.put(name, content, fate, stop)

    @rule(
        care=st.sampled_from([collect, collect, partial(repack, threshold=0.9)]),
        hours=st.sampled_from([25, 25, 25, 13]),
        fate=deaths(),
        stop=stops(("packs/", 1), ("trash/", 1), ("packs/", 2), ("tree/", 1)),
    )
    def care(self, care: Callable[[Store], object], hours: int, fate: Fate, stop: Stop | None) -> None:
        self.pass_by(hours)
        self.run(lambda fate: care(self.world.process(fate=fate)), fate, stop)

    @precondition(lambda self: self.paused)
    @rule(which=st.integers(0, 1), dies=st.sampled_from([False, False, True]))
    def end(self, which: int, dies: bool) -> None:
        """One that was stopped goes on to its end, or dies where it stands."""
        one = self.paused.pop(which % len(self.paused))
        was_visible = one.program.stop is not None and one.program.stop.below == "hints/"
        one.program.die() if dies else one.program.go_on()
        if one.name is not None and not was_visible:
            self.note_put(one.program, one.name, one.content)

    @rule(name=NAMES)
    def read(self, name: str) -> None:
        """What was opened before, everything over what was got before, and a file that is read later."""
        self.read_what_is_held()
        self.get_everything()
        if name in self.model:
            self.held.append((name, self.store.open(name), self.model[name]))

    @invariant()
    def everything_reachable_verifies(self) -> None:
        if hasattr(self, "patch"):
            assert self.found() == self.model

    def teardown(self) -> None:
        if not hasattr(self, "patch"):
            return
        try:
            for one in self.paused:
                one.program.die()
            assert check(self.store, read_data=True).ok
            self.nothing_unused_stays()
        finally:
            for _, reader, _ in self.held:
                reader.close()
            self.patch.undo()
            self.directory.cleanup()

    def put(self, name: str, content: bytes, fate: Fate, stop: Stop | None) -> None:
        source = self.home / f"source-{next(_numbers)}"
        source.write_bytes(content)
        program = self.run(lambda fate: self.world.process(fate=fate).put(source, name), fate, stop, name, content)
        self.note_put(program, name, content)

    def remove(self, name: str) -> None:
        with contextlib.suppress(PathMissing):
            self.store.rm(name)
        self.model.pop(name, None)

    def read_what_is_held(self) -> None:
        """A reader gives what was there when it was opened, for as long as anything still needs those bytes."""
        for name, reader, content_then in self.held:
            try:
                assert reader.read_at(0, len(content_then)) == content_then
            except PackMissing:
                assert self.model.get(name) != content_then
            except PathMissing:
                assert name not in self.model
            reader.close()
        self.held.clear()

    def get_everything(self) -> None:
        """By somebody who has no journal."""
        self.patch.setenv("SHARDFLOW_STATE", tempfile.mkdtemp(dir=self.home))
        self.store.get("", self.home / "target")
        assert {name: (self.home / "target" / name).read_bytes() for name in self.model} == self.model

    def nothing_unused_stays(self) -> None:
        before = self.found()
        for _ in range(4):
            self.world.clock.pass_by(DAY)
            collect(self.store)
        used = {pack for _, manifest in self.store.manifests() for pack in manifest.table.packs}
        assert (self.world.packs(), self.world.keys("trash/")) == (used, [])
        assert self.found() == before

    def found(self) -> dict[str, bytes]:
        return {entry.path: self.store.open(entry.path).read() for entry in self.store.ls("", recursive=True)}

    def note_put(self, program: Program, name: str, content: bytes) -> None:
        """If the writer died, the old content stays or the new one is there whole; before its hints it is not seen."""
        if program.died:
            now = self.found().get(name)
            assert now in {self.model.get(name), content}
            if now is not None:
                self.model[name] = now
        elif not program.is_paused or (program.stop is not None and program.stop.below == "hints/"):
            self.model[name] = content

    def run(
        self,
        act: Callable[[Fate], object],
        fate: Fate,
        stop: Stop | None,
        name: str | None = None,
        content: bytes = b"",
    ) -> Program:
        """If it comes to its stop, the world waits for the one change it stands at."""
        program = Program(act, fate, stop if len(self.paused) < 2 else None)
        if program.is_paused:
            self.paused.append(Paused(program, self.world.clock.now + LONGEST_CHANGE, name, content))
        return program

    def pass_by(self, hours: float) -> None:
        left = [one.ends_before - self.world.clock.now for one in self.paused]
        self.world.clock.pass_by(max(0.0, min([hours * HOUR, *left])))


class OnMemory(StoreMachine):
    """ETags follow from the content, as on S3."""

    transport = WorldTransport

    def place(self) -> str:
        return f"shardflow://memory/machine-{next(_numbers)}"


class OnDisk(StoreMachine):
    transport = TimedTransport

    def place(self) -> str:
        return f"shardflow://file{self.home}/store"


OTHERS_EACH_RUN = settings(
    max_examples=10,
    stateful_step_count=40,
    deadline=None,
    derandomize=False,
    print_blob=True,
    phases=set(Phase) - {Phase.shrink},  # it takes minutes, and is for whoever looks into a failure
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)

TestOnMemory = OnMemory.TestCase
TestOnMemory.settings = OTHERS_EACH_RUN
TestOnDisk = OnDisk.TestCase
TestOnDisk.settings = OTHERS_EACH_RUN


def test_versions_of_a_model_rest_on_each_other_in_such_a_store(tmp_path: Path) -> None:
    store = Store.init(f"shardflow://memory/machine-{next(_numbers)}", SMALL)
    for number in range(2):
        (tmp_path / "source").write_bytes(version(number))
        store.put(tmp_path / "source", "model")
    assert store.manifest("model").table.base_count.any()
