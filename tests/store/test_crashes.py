"""A put may die before any of its changes: what is visible is whole, and the next run sends only what is missing."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from faults.crashing import Crash, Fate, mortal
from shardflow.store.store import Store

CONTENT = np.random.default_rng(7).integers(0, 256, 300_000, dtype=np.uint8).tobytes()


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A directory of a small file, files over several packs, and the entry that completes it."""
    model = tmp_path / "model"
    model.mkdir()
    (model / "MLmodel").write_text("flavors: {}")
    (model / "config.json").write_text("{}")
    (model / "weights-1.bin").write_bytes(CONTENT)
    (model / "weights-2.bin").write_bytes(CONTENT[::-1])
    return model


def visible_files_verify(store: Store, model: Path) -> set[str]:
    """Everything that can be seen has the bytes it should have; returns what can be seen."""
    seen = set()
    for entry in store.ls("m", recursive=True) if _exists(store, "m") else ():
        name = entry.path.removeprefix("m/")
        assert store.open(entry.path).read() == (model / name).read_bytes()
        seen.add(name)
    return seen


def _exists(store: Store, path: str) -> bool:
    return any(entry.path == path for entry in store.ls(""))


def changes_of_a_put(make: Callable[[], Store], model: Path) -> int:
    fate = Fate()
    mortal(make(), fate).put(model, "m")
    return fate.changes


def test_a_put_that_dies_before_any_change_leaves_whole_files_only_and_finishes_when_run_again(
    store: Store, model: Path
) -> None:
    total = changes_of_a_put(lambda: store, model)
    store.rm("m", recursive=True)
    for key in [info.key for prefix in ("packs/", "hints/") for info in store.transport.list(prefix)]:
        store.transport.delete(key)

    for dies_at in range(1, total + 1):
        with contextlib.suppress(Crash):
            mortal(store, Fate(dies_at=dies_at)).put(model, "m")
        seen = visible_files_verify(store, model)
        assert "MLmodel" not in seen or seen == {path.name for path in model.iterdir()}

        store.put(model, "m")
        assert visible_files_verify(store, model) == {path.name for path in model.iterdir()}

        store.rm("m", recursive=True)
        for key in [info.key for prefix in ("packs/", "hints/") for info in store.transport.list(prefix)]:
            store.transport.delete(key)


def test_packs_that_arrived_before_the_crash_are_not_sent_again(store: Store, model: Path) -> None:
    fate = Fate()

    def die_on_third_pack(verb: str, key: str) -> None:
        if key.startswith("packs/") and sum(name.startswith("packs/") for name in fate.written) >= 3:
            raise Crash

    fate.before = die_on_third_pack
    with contextlib.suppress(Crash):
        mortal(store, fate).put(model, "m")
    arrived = {info.key for info in store.transport.list("packs/")}

    second = Fate()
    mortal(store, second).put(model, "m")

    assert len(arrived) == 3
    assert not arrived & set(second.written)
    assert visible_files_verify(store, model) == {path.name for path in model.iterdir()}


def test_without_the_journal_packs_that_arrived_are_recognised_by_their_name(
    store: Store, model: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fate = Fate()

    def die_on_third_pack(verb: str, key: str) -> None:
        if key.startswith("packs/") and sum(name.startswith("packs/") for name in fate.written) >= 3:
            raise Crash

    fate.before = die_on_third_pack
    with contextlib.suppress(Crash):
        mortal(store, fate).put(model, "m")
    arrived = {info.key for info in store.transport.list("packs/")}
    monkeypatch.setenv("SHARDFLOW_STATE", str(tmp_path / "another machine"))

    second = Fate()
    mortal(store, second).put(model, "m")

    assert not arrived & set(second.written)


def test_a_get_that_is_interrupted_keeps_what_verified(store: Store, tmp_path: Path) -> None:
    store.put(io.BytesIO(CONTENT), "model.bin")
    target = tmp_path / "model.bin"
    partial = tmp_path / f".shardflow-{store.manifest('model.bin').digest.hex()[:24]}.part"
    partial.write_bytes(CONTENT[:200_000] + bytes(100_000))

    report = store.get("model.bin", target)

    assert target.read_bytes() == CONTENT
    assert 180_000 < report.bytes_reused < 200_000
    assert not partial.exists()


def test_a_partial_file_with_altered_bytes_is_not_trusted(store: Store, tmp_path: Path) -> None:
    store.put(io.BytesIO(CONTENT), "model.bin")
    partial = tmp_path / f".shardflow-{store.manifest('model.bin').digest.hex()[:24]}.part"
    damaged = bytearray(CONTENT)
    damaged[1234] ^= 1
    partial.write_bytes(damaged)

    store.get("model.bin", tmp_path / "model.bin")

    assert (tmp_path / "model.bin").read_bytes() == CONTENT
