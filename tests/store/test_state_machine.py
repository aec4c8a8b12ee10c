"""Writers, collectors, readers and crashes in any order, against a dictionary: what is reachable always verifies."""

from __future__ import annotations

import contextlib
import io
import itertools
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from faults.crashing import Crash, Fate, mortal
from shardflow.store.care.fsck import check
from shardflow.store.care.gc import collect
from shardflow.store.care.repack import repack
from shardflow.store.config import Cutting, Settings
from shardflow.store.errors import PackMissing, PathMissing
from shardflow.store.reader import Reader
from shardflow.store.store import Store

SMALL = Settings(
    pack_bytes=16 << 10,
    chunk_bytes=4 << 10,
    inline_bytes=256,
    cutting=Cutting(minimum=256, mean=1024, maximum=4096),
)
NAMES = st.sampled_from(["a", "b", "d/x", "d/y"])
_numbers = itertools.count()


def content(seed: int, size: int) -> bytes:
    """Contents that share long runs with each other."""
    base = np.random.default_rng(seed % 2).integers(0, 256, size, dtype=np.uint8)
    base[: size // 8] = seed
    return base.tobytes()


class StoreMachine(RuleBasedStateMachine):
    """Grace is zero, so every collection may delete what the one before it set aside."""

    @initialize()
    def make(self) -> None:
        self.home = tempfile.TemporaryDirectory()
        self.patch = pytest.MonkeyPatch()
        self.patch.setenv("SHARDFLOW_STATE", self.home.name)
        self.store = Store.init(f"shardflow://memory/machine-{next(_numbers)}", SMALL)
        self.model: dict[str, bytes] = {}
        self.held: list[tuple[str, Reader, bytes]] = []

    @rule(name=NAMES, seed=st.integers(0, 5), size=st.integers(0, 40_000))
    def put(self, name: str, seed: int, size: int) -> None:
        self.store.put(io.BytesIO(content(seed, size)), name)
        self.model[name] = content(seed, size)

    @rule(name=NAMES, seed=st.integers(0, 5), size=st.integers(1_000, 40_000), dies_at=st.integers(1, 6))
    def put_and_die(self, name: str, seed: int, size: int, dies_at: int) -> None:
        """Either the old content stays, or the new one is there whole."""
        with contextlib.suppress(Crash):
            mortal(self.store, Fate(dies_at=dies_at)).put(io.BytesIO(content(seed, size)), name)
        try:
            now = self.store.open(name).read()
        except PathMissing:
            assert name not in self.model
            return
        assert now in {self.model.get(name), content(seed, size)}
        self.model[name] = now

    @rule(name=NAMES, seed=st.integers(0, 5), size=st.integers(1_000, 40_000), when=st.integers(1, 4))
    def put_while_collected(self, name: str, seed: int, size: int, when: int) -> None:
        """A collection sets things aside before the n-th change of a writer that reads from a file."""
        fate = Fate()

        def collector(verb: str, key: str) -> None:
            if fate.changes + 1 == when:
                collect(self.store, grace=3600.0)

        fate.before = collector
        source = Path(self.home.name) / "source"
        source.write_bytes(content(seed, size))
        mortal(self.store, fate).put(source, name)
        self.model[name] = content(seed, size)

    @rule(name=NAMES)
    def remove(self, name: str) -> None:
        with contextlib.suppress(PathMissing):
            self.store.rm(name)
        self.model.pop(name, None)

    @rule()
    def collect(self) -> None:
        collect(self.store, grace=0.0)

    @rule(dies_at=st.integers(1, 8))
    def collect_and_die(self, dies_at: int) -> None:
        with contextlib.suppress(Crash):
            collect(mortal(self.store, Fate(dies_at=dies_at)), grace=0.0)

    @rule()
    def repack(self) -> None:
        repack(self.store, threshold=0.9)

    @rule(dies_at=st.integers(1, 6))
    def repack_and_die(self, dies_at: int) -> None:
        with contextlib.suppress(Crash):
            repack(mortal(self.store, Fate(dies_at=dies_at)), threshold=0.9)

    @rule(name=NAMES)
    def open_and_hold(self, name: str) -> None:
        if name in self.model:
            self.held.append((name, self.store.open(name), self.model[name]))

    @rule()
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

    @rule()
    def forget_the_journal(self) -> None:
        self.patch.setenv("SHARDFLOW_STATE", tempfile.mkdtemp(dir=self.home.name))

    @invariant()
    def everything_reachable_verifies(self) -> None:
        if not hasattr(self, "store"):
            return
        found = {entry.path: self.store.open(entry.path).read() for entry in self.store.ls("", recursive=True)}
        assert found == self.model

    def teardown(self) -> None:
        if hasattr(self, "patch"):
            assert check(self.store, read_data=True).ok
            for _, reader, _ in self.held:
                reader.close()
            self.patch.undo()
            self.home.cleanup()


TestStoreMachine = StoreMachine.TestCase
TestStoreMachine.settings = settings(
    max_examples=60,
    stateful_step_count=20,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
