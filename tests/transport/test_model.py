"""Backends against a model: whatever is done to them in whatever order, they hold what a dict would hold."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

from shardflow.transport import AlreadyThere, Changed, ObjectMissing, StoreURL, Transport, connect

KEYS = st.sampled_from(["a", "b/1", "b/2", "b-c", "d/e/f", "d/e/g", "d/h"])
CONTENT = st.binary(max_size=20)
NO_ETAG = "no such version"


class TransportMachine(RuleBasedStateMachine):
    """A transport beside a dict of key to (content, ETag)."""

    etags = Bundle("etags")

    def __init__(self) -> None:
        super().__init__()
        self.transport = self.open()
        self.model: dict[str, tuple[bytes, str | None]] = {}

    def open(self) -> Transport:
        raise AssertionError("the backend under test says how")

    @rule(target=etags, key=KEYS, content=CONTENT)
    def write(self, key: str, content: bytes) -> str | None:
        self.model[key] = (content, self.transport.write(key, content).etag)
        return self.model[key][1]

    @rule(target=etags, key=KEYS, content=CONTENT)
    def create(self, key: str, content: bytes) -> str | None:
        try:
            etag = self.transport.write(key, content, if_absent=True).etag
        except AlreadyThere:
            assert key in self.model
            return self.model[key][1]
        assert key not in self.model
        self.model[key] = (content, etag)
        return etag

    @rule(target=etags, key=KEYS, content=CONTENT, etag=etags)
    def update(self, key: str, content: bytes, etag: str) -> str | None:
        try:
            new = self.transport.write(key, content, if_match=etag).etag
        except Changed:
            assert self.model.get(key, (b"", NO_ETAG))[1] != etag
            return etag
        assert self.model[key][1] == etag
        self.model[key] = (content, new)
        return new

    @rule(key=KEYS)
    def delete(self, key: str) -> None:
        assert self.transport.delete(key) == (self.model.pop(key, None) is not None)

    @rule(key=KEYS, etag=etags)
    def delete_version(self, key: str, etag: str) -> None:
        present = self.model.get(key)
        try:
            deleted = self.transport.delete(key, if_match=etag)
        except Changed:
            assert present
            assert present[1] != etag
            return
        assert deleted == (present is not None)
        assert present is None or present[1] == etag
        self.model.pop(key, None)

    @rule(key=KEYS, start=st.integers(0, 5), length=st.integers(1, 5))
    def read_range(self, key: str, start: int, length: int) -> None:
        content = self.model.get(key, (b"", None))[0]
        if len(content) >= start + length:
            assert self.transport.read_range(key, start, length) == content[start : start + length]

    @rule(key=KEYS)
    def read_missing(self, key: str) -> None:
        try:
            self.transport.head(key)
        except ObjectMissing:
            assert key not in self.model

    @rule(prefix=st.sampled_from(["", "b", "d", "d/e", "x"]), after=st.none() | KEYS)
    def list(self, prefix: str, after: str | None) -> None:
        wanted = [key for key in sorted(self.model) if not prefix or key.startswith(f"{prefix}/")]
        listed = [info.key for info in self.transport.list(prefix, after=after)]
        assert listed == [key for key in wanted if after is None or key > after]

    @rule(prefix=st.sampled_from(["", "b", "d", "d/e", "x"]))
    def list_names(self, prefix: str) -> None:
        below = [key.removeprefix(f"{prefix}/") for key in self.model if not prefix or key.startswith(f"{prefix}/")]
        directories = sorted({key.split("/")[0] for key in below if "/" in key})
        assert self.transport.list_names(prefix) == (directories, sorted(key for key in below if "/" not in key))

    @invariant()
    def holds_what_the_model_holds(self) -> None:
        found = {info.key: (bytes(self.transport.read(info.key)), info.etag) for info in self.transport.list()}
        assert found == self.model


class MemoryMachine(TransportMachine):
    opened = 0

    def open(self) -> Transport:
        MemoryMachine.opened += 1
        return connect(StoreURL.parse(f"shardflow://memory/model-{MemoryMachine.opened}"))


class FileMachine(TransportMachine):
    def open(self) -> Transport:
        self.root = Path(tempfile.mkdtemp())
        return connect(StoreURL("file", str(self.root)))

    def teardown(self) -> None:
        shutil.rmtree(self.root)


MemoryMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
FileMachine.TestCase.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
TestMemoryAgainstModel = MemoryMachine.TestCase
TestFileAgainstModel = FileMachine.TestCase
