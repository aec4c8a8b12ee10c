"""A put relies on chunks that are in the store and that can be read there, whichever file told of them."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from delta.models import Model, as_file, trained
from shardflow.codec import CodecId
from shardflow.store import bases, chunks, coding, presence
from shardflow.store.care import structure
from shardflow.store.care.fsck import check
from shardflow.store.catalog import Catalog
from shardflow.store.errors import ChunkDamaged
from shardflow.store.store import Store
from store.conftest import SMALL

CHUNK = 256 << 10
DEPTH = 6  # as deep as a chunk may be that rests on at most MOST


@pytest.fixture(autouse=True)
def most(monkeypatch: pytest.MonkeyPatch) -> None:
    """A chain may be as long as the settings allow, and no longer."""
    for module in (bases, chunks, coding, presence, structure):
        monkeypatch.setattr(module, "MOST_BASE_BYTES", DEPTH * CHUNK)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    settings = msgspec.structs.replace(
        SMALL, chunk_bytes=CHUNK, pack_bytes=4 << 20, deltas=msgspec.structs.replace(SMALL.deltas, depth=DEPTH)
    )
    return Store.init(f"shardflow://memory/presence-{tmp_path.name}", settings)


def first() -> Model:
    """Large enough to be hinted at: five chunks."""
    return {"w": np.random.default_rng(0).standard_normal((2560, 128)).astype("<f4")}


def put(store: Store, path: str, values: Model, tmp_path: Path) -> None:
    source = tmp_path / "source.safetensors"
    source.write_bytes(as_file(values))
    store.put(source, path)


def comes_back(store: Store, path: str, values: Model) -> bool:
    with store.open(path) as reader:
        return reader.read() == as_file(values)


def chained(store: Store, path: str, values: Model, tmp_path: Path) -> Model:
    """So many versions that the last one rests on as much as it may."""
    for version in range(DEPTH):
        values = trained(values, 1e-7, seed=version)
        put(store, path, values, tmp_path)
    return values


def two_chains(store: Store, tmp_path: Path) -> Model:
    """The last version at `deep` stands at `base` by itself as well, which was stored by who did not find it, and is
    where the chain of `x` begins."""
    put(store, "deep", first(), tmp_path)
    last = chained(store, "deep", first(), tmp_path)
    for hint in list(store.transport.list("hints/")):
        store.transport.delete(hint.key)
    put(store, "base", last, tmp_path)
    return chained(store, "x", last, tmp_path)


def without_the_shorter_way(patched: pytest.MonkeyPatch) -> None:
    patched.setattr(Catalog, "_is_shorter", lambda *_: False)


def test_what_is_put_where_two_chains_meet_comes_back(store: Store, tmp_path: Path) -> None:
    newest = two_chains(store, tmp_path)
    assert comes_back(store, "x", newest)
    put(store, "deep", newest, tmp_path)
    assert comes_back(store, "deep", newest)
    assert check(store).ok


def test_a_known_chunk_that_nobody_could_read_is_stored_anew(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    newest = two_chains(store, tmp_path)
    without_the_shorter_way(monkeypatch)
    put(store, "deep", newest, tmp_path)
    assert comes_back(store, "deep", newest)
    assert check(store).ok


@pytest.mark.parametrize(("before", "merged"), [(DEPTH - 2, True), (DEPTH - 1, False)])
def test_factors_are_rested_on_where_there_is_room_for_them_beside_a_chain(
    before: int, merged: bool, store: Store, tmp_path: Path
) -> None:
    values = first()
    put(store, "m", values, tmp_path)
    for version in range(before):
        values = trained(values, 1e-7, seed=version)
        put(store, "m", values, tmp_path)
    rng = np.random.default_rng(5)
    a, b = (rng.standard_normal(shape).astype("<f4") for shape in ((2560, 4), (4, 128)))
    values = {"w": values["w"] + np.float32(1e-3) * (a @ b)}
    put(store, "m", values, tmp_path)
    assert comes_back(store, "m", values)
    assert (CodecId.LOWRANK in store.manifest("m").table.codec) == merged


def test_a_file_that_rests_on_too_much_is_told_of_and_whole_once_it_is_put_again(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    newest = two_chains(store, tmp_path)
    with pytest.MonkeyPatch.context() as patched:
        without_the_shorter_way(patched)
        patched.setattr(presence, "MOST_BASE_BYTES", 1 << 40)
        put(store, "deep", newest, tmp_path)
    with pytest.raises(ChunkDamaged, match="rests on more than"):
        comes_back(store, "deep", newest)
    report = check(store)
    assert not report.ok
    [problem] = report.problems
    assert (problem.kind, problem.path, problem.remedy) == ("chunks-too-heavy", "deep", "put the file again")
    put(store, "deep", newest, tmp_path)
    assert comes_back(store, "deep", newest)
    assert check(store).ok
