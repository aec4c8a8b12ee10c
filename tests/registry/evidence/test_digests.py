"""The digest of a model is that of every file it could load, wherever they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from registry.evidence.samples import FILES
from registry.logged import Place, write
from shardflow.registry import evidence_digests
from shardflow.registry.evidence_digests import FileChanged, FilesMissing, digest_of, files_of
from shardflow.registry.references import Registered
from shardflow.store.errors import ManifestDamaged
from shardflow.store.paths import key_of, marker_of
from shardflow.store.store import Store
from shardflow.transport import Transport


def test_the_digests_of_a_model_in_a_store_are_those_of_its_files_on_disk(version: Registered, tmp_path: Path) -> None:
    for name, content in FILES.items():
        (tmp_path / "copy" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "copy" / name).write_bytes(content)
    stored, on_disk = files_of(version.location), files_of(str(tmp_path / "copy"))
    assert digest_of(stored) == digest_of(on_disk)
    assert digest_of(files_of((tmp_path / "copy").as_uri())) == digest_of(stored)


def test_what_comes_beside_a_model_later_does_not_change_its_digest(version: Registered) -> None:
    before = digest_of(files_of(version.location))
    for name in ("model.sig", "lineage.html", "registered_model_meta"):
        write(version.location, name, b"later")
    assert digest_of(files_of(version.location)) == before
    write(version.location, "weights/b.bin", b"more")
    assert digest_of(files_of(version.location)) != before


BESIDE = ["model.sig", "lineage.html", "registered_model_meta"]
TEXT, BINARY = b"later", b"\x80\x04\x95binary"


def changes_with(location: str, name: str, before: bytes, after: bytes) -> bool:
    """Whether evidence about a model is about this file of it, too."""
    write(location, name, before)
    digest = digest_of(files_of(location))
    write(location, name, after)
    return digest_of(files_of(location)) != digest


@pytest.mark.parametrize("name", BESIDE)
def test_what_a_model_loads_is_a_part_of_it_whatever_it_is_called(version: Registered, name: str) -> None:
    flavors = b"flavors: {python_function: {model_path: %s}}"
    escaped = name.replace("e", "\\x65", 1)
    for path in (name, f"./weights/../{name}", name.upper(), f'"{escaped}"'):
        write(version.location, "MLmodel", flavors % path.encode())
        assert changes_with(version.location, name, TEXT, b"other")
    write(version.location, "MLmodel", flavors % b"weights/a.bin")
    assert not changes_with(version.location, name, TEXT, b"other")


def test_of_a_model_whose_description_is_too_long_to_be_looked_into_every_file_is_a_part(version: Registered) -> None:
    write(version.location, "MLmodel", b"flavors: {}\n" + b"#" * (4 << 20))
    assert changes_with(version.location, "lineage.html", TEXT, b"other")


@pytest.mark.parametrize("name", BESIDE)
@pytest.mark.parametrize(
    ("before", "after"), [(BINARY, b"\0other"), (BINARY, TEXT), (TEXT, BINARY), (b"\xff", b"\xfe")]
)
def test_what_is_no_text_is_a_part_of_the_model_whoever_loads_it(
    version: Registered, name: str, before: bytes, after: bytes
) -> None:
    assert changes_with(version.location, name, before, after)


def test_a_file_below_such_a_name_is_a_part_of_the_model(version: Registered) -> None:
    assert changes_with(version.location, "lineage.html/weights", TEXT, b"other")
    assert changes_with(version.location, "weights/lineage.html", TEXT, b"other")


def test_a_long_page_beside_a_model_is_no_part_of_it_and_neither_is_one_on_disk(
    version: Registered, tmp_path: Path
) -> None:
    assert not changes_with(version.location, "lineage.html", TEXT, "<p>ä</p>\n".encode() * 20_000)
    for name, content in {**FILES, **dict.fromkeys(BESIDE, TEXT)}.items():
        (tmp_path / "copy" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "copy" / name).write_bytes(content)
    assert digest_of(files_of(str(tmp_path / "copy"))) == digest_of(files_of(version.location))
    (tmp_path / "copy" / "lineage.html").write_bytes(BINARY)
    assert digest_of(files_of(str(tmp_path / "copy"))) != digest_of(files_of(version.location))


def test_a_file_on_disk_that_changes_between_two_looks_at_it_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    look = evidence_digests.came_later

    def somebody_writes(*given: Any) -> frozenset[str]:
        (tmp_path / "model.sig").write_bytes(TEXT)
        return look(*given)

    (tmp_path / "model.sig").write_bytes(BINARY)
    monkeypatch.setattr(evidence_digests, "came_later", somebody_writes)
    with pytest.raises(FileChanged, match=r"model\.sig changed while it was being read"):
        files_of(str(tmp_path))


def test_a_place_without_files_is_told(here: Place) -> None:
    with pytest.raises(FilesMissing, match="there are no files"):
        files_of(f"{here.store.url}/nothing")


def test_what_is_altered_on_its_way_is_read_again_and_what_is_altered_in_the_store_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store.init(f"shardflow://file{tmp_path}/store")
    (tmp_path / "model" / "empty").mkdir(parents=True)
    (tmp_path / "model" / "weights.bin").write_bytes(b"weights")
    store.put(tmp_path / "model", "m")
    location, read, altered = f"{store.url}/m", Transport.read, set[str]()
    right = files_of(location)

    def once_altered(self: Transport, key: str) -> memoryview:
        data = bytearray(read(self, key))
        if key == key_of("m/weights.bin") and key not in altered:
            altered.add(key)
            data[len(data) // 2] ^= 1
        return memoryview(data)

    monkeypatch.setattr(Transport, "read", once_altered)
    assert files_of(location) == right
    assert altered
    for stored in (key_of("m/weights.bin"), marker_of("m/empty")):
        data = bytearray(read(store.transport, stored))
        data[len(data) // 2] ^= 1
        store.transport.write(stored, bytes(data))
        with pytest.raises(ManifestDamaged):
            files_of(location)
        data[len(data) // 2] ^= 1
        store.transport.write(stored, bytes(data))
