"""What was stored years ago is read today, byte for byte, and what is stored today is stored in the same way."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import zstandard
from blake3 import blake3

from shardflow.store.hints import HINTS, read_hint
from shardflow.store.manifest import Manifest, encode_manifest
from shardflow.store.pack import check_whole, pack_of_key
from shardflow.store.paths import key_of
from shardflow.store.store import Store
from store import golden

CONTENT: dict[str, Any] = json.loads((golden.GOLDEN / "content.json").read_text())
FILES = {os.fsdecode(path.encode("latin-1")): (size, digest) for path, (size, digest) in CONTENT["files"].items()}


@pytest.fixture
def old(tmp_path: Path) -> Store:
    """A copy, because a checkout may be read-only and is nobody's place to write."""
    shutil.copytree(golden.GOLDEN / "store", tmp_path / "store")
    return Store.find(str(tmp_path / "store"))[0]


@pytest.fixture(scope="module")
def new(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """The same files, stored today."""
    place = tmp_path_factory.mktemp("new")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SHARDFLOW_STATE", str(place / "state"))
        store = Store.init(str(place / "store"), golden.SETTINGS)
        golden.write(store)
    return store


def structure(manifest: Manifest) -> dict[str, object]:
    """What does not depend on the release of any library."""
    table = manifest.table
    return {
        "size": manifest.size,
        "digest": manifest.digest,
        "kind": manifest.kind,
        "layout": manifest.layout,
        "features": tuple(feature for feature in manifest.features if feature[0] in "tc"),
        "inline": manifest.inline,
        "chunks": [(table.id(row), int(table.size[row])) for row in manifest.sequence.tolist()],
    }


def keys_of(store: Store, prefix: str) -> set[str]:
    return {info.key for info in store.transport.list(prefix)}


@pytest.mark.parametrize("path", FILES)
def test_every_file_of_an_old_store_is_read_byte_for_byte(old: Store, path: str) -> None:
    size, digest = FILES[path]
    with old.open(path) as file:
        content = file.read()
    assert (len(content), blake3(content).hexdigest()) == (size, digest)
    assert content == golden.files()[path]


def test_an_old_store_comes_back_as_a_directory(old: Store, tmp_path: Path) -> None:
    old.get("", tmp_path / "back")
    found = {
        str(file.relative_to(tmp_path / "back")): (file.stat().st_size, blake3(file.read_bytes()).hexdigest())
        for file in (tmp_path / "back").rglob("*")
        if file.is_file()
    }
    assert found == FILES
    assert not list((tmp_path / "back" / CONTENT["directory"]).iterdir())


def test_every_pack_of_an_old_store_is_whole(old: Store) -> None:
    for key in keys_of(old, "packs/"):
        pack = pack_of_key(key)
        assert pack is not None
        assert check_whole(pack, old.transport.read(key))


def test_the_old_store_holds_every_encoding_and_every_kind_of_manifest(old: Store) -> None:
    manifests = dict(old.manifests())
    assert {code for manifest in manifests.values() for code in manifest.table.codec.tolist()} == {0, 1, 2}
    assert {manifest.kind for manifest in manifests.values()} == {"file", "directory"}
    assert {manifest.layout for manifest in manifests.values()} == {"plain", "safetensors"}
    assert any(manifest.inline for manifest in manifests.values())
    assert any(len(manifest.sequence) > len(manifest.table) for manifest in manifests.values())
    assert any(len(manifest.table.packs) > 1 for manifest in manifests.values())


def test_hints_of_an_old_store_lead_to_its_files(old: Store) -> None:
    hints = [read_hint(old.transport, key) for key in keys_of(old, HINTS)]
    assert hints
    for hint in hints:
        assert hint is not None
        assert old.manifest(hint.path).digest == hint.digest


def test_an_old_store_takes_new_files_and_reuses_what_it_has(old: Store) -> None:
    before = keys_of(old, "packs/")
    golden.write(old)
    assert keys_of(old, "packs/") == before
    assert old.stat("").files == len(FILES)


def test_what_is_stored_today_is_cut_named_and_found_as_it_was_then(old: Store, new: Store) -> None:
    then, now = dict(old.manifests()), dict(new.manifests())
    assert then.keys() == now.keys()
    for path, manifest in then.items():
        assert structure(now[path]) == structure(manifest), path
    assert keys_of(new, "hints/") >= keys_of(old, "hints/")


def test_with_the_same_zstd_every_byte_is_as_it_was_then(old: Store, new: Store) -> None:
    """But for times and the store's id, and for hints that were thought of since."""
    if list(zstandard.ZSTD_VERSION) != CONTENT["zstd"]:
        return
    for prefix in ("packs/", "hints/"):
        assert keys_of(new, prefix) >= keys_of(old, prefix)
        for key in keys_of(old, prefix):
            assert bytes(new.transport.read(key)) == bytes(old.transport.read(key)), key
    for path, manifest in new.manifests():
        if manifest.kind == "file":
            then = old.manifest(path)
            again = encode_manifest(replace(manifest, created=then.created, features=then.features))
            assert again == bytes(old.transport.read(key_of(path))), path


def test_the_golden_store_stays_small() -> None:
    assert sum(file.stat().st_size for file in golden.GOLDEN.rglob("*") if file.is_file()) < 100_000
