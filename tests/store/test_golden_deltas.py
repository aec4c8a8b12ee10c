"""Deltas that were stored years ago are read today, byte for byte, and still serve as bases."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from blake3 import blake3

from shardflow.codec import CodecId
from shardflow.store.pack import check_whole, pack_of_key
from shardflow.store.store import Store
from store.golden_deltas import GOLDEN, versions

FILES: dict[str, tuple[int, str]] = json.loads((GOLDEN / "content.json").read_text())


@pytest.fixture
def old(tmp_path: Path) -> Store:
    """A copy, because a checkout may be read-only and is nobody's place to write."""
    shutil.copytree(GOLDEN / "store", tmp_path / "store")
    return Store.find(str(tmp_path / "store"))[0]


@pytest.mark.parametrize("path", FILES)
def test_every_old_version_is_read_byte_for_byte(old: Store, path: str) -> None:
    with old.open(path) as file:
        content = file.read()
    assert [len(content), blake3(content).hexdigest()] == FILES[path]


def test_all_old_versions_come_back_together(old: Store, tmp_path: Path) -> None:
    old.get("", tmp_path / "back")
    for path, (_, digest) in FILES.items():
        assert blake3((tmp_path / "back" / path).read_bytes()).hexdigest() == digest, path


def test_old_versions_hold_every_encoding_that_rests_on_others(old: Store) -> None:
    manifests = dict(old.manifests())
    codecs = {path: {CodecId(code) for code in manifests[path].table.codec.tolist()} for path in FILES}
    assert CodecId.PLANES in codecs["first/model.safetensors"]
    assert CodecId.DELTA in codecs["trained/model.safetensors"]
    assert CodecId.LOWRANK in codecs["merged/model.safetensors"]
    assert CodecId.CAST in codecs["wide/model.safetensors"]
    chain = manifests["later/model.safetensors"]
    assert chain.table.codec.tolist().count(CodecId.DELTA) > len(chain.sequence) / 2, "deltas that rest on deltas"


def test_every_pack_of_the_old_versions_is_whole(old: Store) -> None:
    packs = [info.key for info in old.transport.list("packs/")]
    assert packs
    for key in packs:
        pack = pack_of_key(key)
        assert pack is not None
        assert check_whole(pack, old.transport.read(key)), key


def test_a_version_stored_today_rests_on_an_old_delta(old: Store, tmp_path: Path) -> None:
    content = bytearray(versions()["trained/model.safetensors"][0])
    content[-5000:-4000] = bytes(1000)
    (tmp_path / "file").write_bytes(content)
    progress = old.put(tmp_path / "file", "new/model.safetensors", base="later")
    assert progress.bytes_on_bases
    with old.open("new/model.safetensors") as file:
        assert file.read() == content


def test_the_golden_deltas_stay_small() -> None:
    assert sum(file.stat().st_size for file in GOLDEN.rglob("*") if file.is_file()) < 160_000
