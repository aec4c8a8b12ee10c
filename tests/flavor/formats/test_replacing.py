"""A checkpoint in a store that is being replaced is there at every moment: the old one, and then the new one."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import torch

from faults.crashing import Crash, Fate, mortal
from flavor.formats.states import differing
from shardflow.flavor import formats
from shardflow.flavor.errors import CheckpointUnusable, ModelMissing
from shardflow.flavor.folders import StoreFolder
from shardflow.flavor.formats import places, replacing, safetensors_files, saving
from shardflow.flavor.formats.comparing import require_same
from shardflow.flavor.formats.errors import CheckpointDamaged, CheckpointExists
from shardflow.flavor.formats.models import weights_in
from shardflow.flavor.formats.state import MemoryState, State
from shardflow.flavor.plans import plan
from shardflow.store.config import Settings
from shardflow.store.store import Store
from shardflow.transport import Transport

OLD = {name: torch.full((9, 9), 1.0) for name in ("gone", "same")}
NEW = {name: torch.full((9, 9), 2.0) for name in ("same", "added")}
CASES = [
    ("safetensors", "safetensors", "saved"),
    ("safetensors", "safetensors", "converted"),
    ("safetensors", "tensorstore-fast", "saved"),
    ("tensorstore", "safetensors", "converted"),
    ("dcp", "dcp", "saved"),
    ("torch", "torch", "saved"),
]


@pytest.fixture(autouse=True)
def a_file_for_each_tensor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(safetensors_files, "plan", partial(plan, max_shard_bytes=400))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.init(f"shardflow://memory/{tmp_path.name}", Settings())


def save_and_die(store: Store, fate: Fate, name: str, *, verify: bool) -> bool:
    """Save at `c` with this fate; whether the process came to its end."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (places, safetensors_files):
            patch.setattr(module.Store, "find", lambda _: (mortal(store, fate), "c"))
        try:
            formats.save(NEW, f"{store.url}/c", format=name, replace=True, verify=verify)
        except Crash:
            return False
    return True


@pytest.mark.parametrize(("old", "new", "how"), CASES)
def test_whichever_change_is_the_last_the_old_or_the_new_checkpoint_loads(
    old: str, new: str, how: str, store: Store
) -> None:
    url = f"{store.url}/c"
    formats.save(OLD, url, format=old)
    begun, found, ended = names(store), [], False
    while not ended:
        ended = save_and_die(store, Fate(len(found) + 1), new, verify=how == "converted")
        found.append(which(formats.load(url)))
        formats.save(OLD, url, format=old, replace=True)
        assert names(store) == begun
    assert found == sorted(found, reverse=True)  # the old one, and from some change on the new one
    assert set(found) == {"old", "new"}


def test_while_a_checkpoint_is_replaced_every_way_of_reading_gives_the_old_one(store: Store, tmp_path: Path) -> None:
    url = f"{store.url}/c"
    formats.save(OLD, url)
    dies_at = 1
    while f"{replacing.NOTE}" not in names(store):
        assert not save_and_die(store, Fate(dies_at), "safetensors", verify=False)
        dies_at += 1
    assert not save_and_die(store, Fate(5), "safetensors", verify=False)  # and one that goes on from there
    assert which(formats.load(url)) == "old"
    assert torch.equal(formats.read(url, "same", slice(0, 2)), OLD["same"][:2])
    with weights_in(StoreFolder(store, "c")) as weights:
        assert which(weights.read_all(weights.names())) == "old"
    store.get("c", tmp_path / "copy")
    assert which(formats.load(tmp_path / "copy")) == "old"


def test_who_fails_before_anything_was_changed_leaves_alone_what_another_is_replacing(store: Store) -> None:
    formats.save(OLD, f"{store.url}/c")
    other = replacing.Replacement(store, "c")
    other.begin({"c/new.safetensors"}, "c/model.safetensors.index.json", checked=True)
    between = names(store)
    assert replacing.NOTE in between
    with pytest.raises(KeyboardInterrupt), replacing.replacement(store, "c", replace=True):
        raise KeyboardInterrupt
    assert names(store) == between


def test_a_reader_that_comes_when_the_new_one_begins_to_count_reads_the_new_one(store: Store) -> None:
    formats.save(OLD, f"{store.url}/c")
    change = replacing.Replacement(store, "c")
    change.begin(set(), "c/model.safetensors.index.json", checked=True)

    class Overtaken(StoreFolder):
        def inside(self, name: str, /) -> StoreFolder:
            change.end()
            return super().inside(name)

    folder, found = replacing.what_counts(Overtaken(store, "c"))
    assert folder.name == f"{store.url}/c"
    assert replacing.NOTE not in found


def test_what_is_altered_on_its_way_is_not_kept_as_the_old_one(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    formats.save(OLD, f"{store.url}/c")
    read, altered = Transport.read, set[str]()

    def once_altered(self: Transport, key: str) -> memoryview:
        data = bytearray(read(self, key))
        if key not in altered:
            altered.add(key)
            data[len(data) // 2] ^= 1
        return memoryview(data)

    change = replacing.Replacement(store, "c")
    monkeypatch.setattr(Transport, "read", once_altered)
    change.begin(set(), "c/model.safetensors.index.json", checked=True)
    change.undo()
    assert len(altered) >= 3
    monkeypatch.undo()
    assert which(formats.load(f"{store.url}/c")) == "old"


def test_a_first_checkpoint_that_a_kill_left_unfinished_is_not_taken_for_a_whole_one(store: Store) -> None:
    url, ended, told = f"{store.url}/c", False, []
    while not ended:
        ended = save_and_die(store, Fate(len(told) + 1), "safetensors", verify=False)
        try:
            told.append(which(formats.load(url)))
        except (CheckpointUnusable, ModelMissing) as error:
            told.append(error.message.partition("/c ")[2].partition(":")[0])
        if not ended and names(store):
            store.rm("c", recursive=True)
    assert list(dict.fromkeys(told)) == ["does not exist", "is unfinished", "new"]


@pytest.mark.parametrize("name", ["safetensors", "torch", "tensorstore"])
def test_a_checkpoint_never_takes_the_place_of_all_that_is_in_a_store(name: str, store: Store) -> None:
    formats.save(OLD, str(store.url), format=name)
    formats.save(OLD, f"{store.url}/other")
    for replace in (False, True):
        with pytest.raises(CheckpointExists, match=r"there are files in the store .*; name a path in it"):
            formats.save(NEW, str(store.url), format=name, replace=replace)
    assert which(formats.load(str(store.url), format=name)) == which(formats.load(f"{store.url}/other")) == "old"


def test_a_file_is_not_replaced_by_a_directory(store: Store, tmp_path: Path) -> None:
    formats.save(OLD, tmp_path / "c", format="torch")
    store.put(tmp_path / "c" / "model.pt", "c.pt")
    with pytest.raises(CheckpointExists, match=r"c\.pt is a file, and a checkpoint is a directory"):
        formats.save(NEW, f"{store.url}/c.pt", replace=True)
    assert which(formats.load(f"{store.url}/c.pt")) == "old"


@pytest.mark.parametrize("there", [{}, OLD], ids=["a-first-one", "another"])
def test_what_does_not_pass_the_comparison_never_counts(
    there: dict[str, torch.Tensor], store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that replaces another leaves that; a first one leaves nothing."""
    url = f"{store.url}/c"
    if there:
        formats.save(there, url)
    begun, seen = names(store), []

    def altered(wanted: State, found: State, where: str) -> None:
        seen.append(replacing.NOTE in names(store))
        require_same(MemoryState.of({name: tensor + 1 for name, tensor in NEW.items()}), found, where)

    monkeypatch.setattr(saving, "require_same", altered)
    with pytest.raises(CheckpointDamaged, match="is not what was read: tensor same has other values"):
        formats.save(NEW, url, replace=bool(there), verify=True)
    assert seen == [True]
    assert names(store) == begun
    if there:
        assert which(formats.load(url)) == "old"


def which(found: dict[str, torch.Tensor]) -> str:
    wanted = OLD if found.keys() == OLD.keys() else NEW
    assert differing(wanted, found) == []
    return "old" if wanted is OLD else "new"


def names(store: Store) -> set[str]:
    return {entry.path.removeprefix("c/") for entry in store.ls(recursive=True)}
