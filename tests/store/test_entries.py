"""Listings and figures say of files what their manifests say."""

from __future__ import annotations

import json

from shardflow.store.entries import Entry, Stat, entry_of, stat_of, sum_of
from shardflow.store.manifest import Manifest
from store.samples import in_memory, named, noise, stored

TEXT = b"words that repeat, " * 200


def test_an_entry_tells_size_time_and_digest() -> None:
    entry = entry_of("models/m", Manifest(3, named(b"abc"), created=7.0, inline=b"abc"))
    assert entry == Entry("models/m", "file", 3, 7.0, named(b"abc").hex())


def test_what_is_not_known_is_left_out() -> None:
    assert Entry("models", "directory").as_dict() == {"path": "models", "kind": "directory"}
    assert "digest" not in sum_of("", []).as_dict()


def test_a_file_is_measured_in_chunks_packs_and_stored_bytes() -> None:
    manifest = stored(in_memory(), [noise(1000), TEXT, noise(1000), noise(500, 1)], per_pack=2)
    figures = stat_of("m", manifest)
    text_stored = figures.stored - 1500
    assert 0 < text_stored < len(TEXT) // 4
    assert figures == Stat(
        path="m",
        kind="file",
        files=1,
        size=2500 + len(TEXT),
        chunks=3,
        packs=2,
        stored=1500 + text_stored,
        codecs={"raw": 2, "zstd": 1},
        layout="plain",
        digest=manifest.digest.hex(),
        created=1.0,
    )


def test_a_file_inside_its_manifest_is_stored_there() -> None:
    figures = stat_of("m", Manifest(3, named(b"abc"), inline=b"abc"))
    assert (figures.stored, figures.chunks, figures.packs, figures.codecs) == (3, 0, 0, {})


def test_a_codec_of_the_future_is_counted_under_its_number() -> None:
    manifest = stored(in_memory(), [noise(10)])
    table = manifest.table
    later = type(table)(
        *(getattr(table, name) for name in table.__slots__[:6]), table.codec + 77, *(table.base_count, table.base)
    )
    assert stat_of("m", Manifest(10, bytes(32), table=later, sequence=manifest.sequence)).codecs == {"codec-77": 1}


def test_a_directory_is_the_sum_of_its_files() -> None:
    place = in_memory()
    files = [stat_of("a", stored(place, [noise(100), TEXT])), stat_of("b", stored(place, [noise(200), noise(300, 1)]))]
    empty = stat_of("c", Manifest(0, named(b""), kind="directory"))
    whole = sum_of("models", [*files, empty])
    assert (whole.path, whole.kind, whole.files) == ("models", "directory", 2)
    assert (whole.size, whole.chunks, whole.packs) == (600 + len(TEXT), 4, 2)
    assert whole.stored == sum(figures.stored for figures in files)
    assert whole.codecs == {"raw": 3, "zstd": 1}


def test_everything_is_plain_data() -> None:
    manifest = stored(in_memory(), [noise(1000), TEXT])
    for found in (entry_of("m", manifest), stat_of("m", manifest), sum_of("", [stat_of("m", manifest)])):
        assert json.loads(json.dumps(found.as_dict()))["path"] == found.path
