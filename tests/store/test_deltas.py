"""A new version of a model costs what changed: bases are found by themselves, chains stay short, nothing is lost."""

from __future__ import annotations

import contextlib
import io
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest

from delta import models
from delta.models import as_file, merged, model, trained
from faults.crashing import Crash, Fate, mortal
from shardflow.codec import CodecId
from shardflow.delta.adapters import AdapterUnusable
from shardflow.dtype import DType
from shardflow.store.care.gc import collect
from shardflow.store.chunks import PlainChunks
from shardflow.store.config import Deltas
from shardflow.store.errors import ChunkDamaged, PackMissing, PathMissing
from shardflow.store.manifest import Manifest
from shardflow.store.pack import pack_key
from shardflow.store.store import Store
from store.conftest import SMALL
from store.samples import flipped

ROOMY = msgspec.structs.replace(SMALL, chunk_bytes=256 << 10, pack_bytes=4 << 20)


@pytest.fixture
def store_url(tmp_path: Path) -> str:
    """In memory: the disk adds nothing to what is tested here but time."""
    return f"shardflow://memory/deltas-{tmp_path.name}"


@pytest.fixture
def store(store_url: str) -> Store:
    """An empty store whose packs hold a whole small model."""
    return Store.init(store_url, ROOMY)


def put(store: Store, path: str, file: bytes, tmp_path: Path, **wishes: object) -> Manifest:
    source = tmp_path / "source.safetensors"
    source.write_bytes(file)
    store.put(source, path, **wishes)  # type: ignore[arg-type]
    with store.open(path) as reader:
        assert reader.read() == file
    store.get(path, tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == file
    (tmp_path / "back").unlink()
    return store.manifest(path)


def own_bytes(manifest: Manifest) -> int:
    """What the file's own chunks take, without what they rest on."""
    return int(manifest.table.stored[np.unique(manifest.sequence)].sum())


def codecs(manifest: Manifest) -> Counter[CodecId]:
    return Counter(CodecId(int(manifest.table.codec[row])) for row in np.unique(manifest.sequence))


def collected(store: Store) -> None:
    """Set aside what is unused, then delete it."""
    for _ in range(2):
        collect(store, grace=0)


def depths(manifest: Manifest) -> list[int]:
    """For each chunk of the table, how many must be decoded before it."""
    found: list[int] = []
    for row in range(len(manifest.table)):
        found.append(1 + max((found[base] for base in manifest.table.bases(row)), default=-1))
    return found


def test_the_next_version_is_stored_by_how_it_differs(store: Store, tmp_path: Path) -> None:
    first = put(store, "v1", as_file(model()), tmp_path)
    second = put(store, "v2", as_file(trained(model(), 1e-7)), tmp_path)
    assert own_bytes(second) < 0.5 * own_bytes(first)
    assert codecs(second)[CodecId.DELTA] > 5


def test_a_version_put_in_the_place_of_another_is_coded_against_it(store: Store, tmp_path: Path) -> None:
    put(store, "latest", as_file(model()), tmp_path)
    again = put(store, "latest", as_file(trained(model(), 1e-7)), tmp_path)
    assert codecs(again)[CodecId.DELTA] > 5


def test_what_did_not_change_is_the_same_chunk(store: Store, tmp_path: Path) -> None:
    put(store, "v1", as_file(model()), tmp_path)
    changed = model() | {"head.weight": trained(model())["head.weight"]}
    before = {info.key for info in store.transport.list("packs/")}
    put(store, "v2", as_file(changed), tmp_path)
    new = [info.size for info in store.transport.list("packs/") if info.key not in before]
    assert sum(new) < 2000 * 128 * 4


@pytest.mark.parametrize("dtype", [DType.BF16, DType.F16])
def test_a_model_stored_again_in_another_dtype_costs_next_to_nothing(
    store: Store, tmp_path: Path, dtype: DType
) -> None:
    put(store, "wide", as_file(model()), tmp_path)
    narrow = put(store, "narrow", as_file(model(), dtype), tmp_path)
    assert codecs(narrow)[CodecId.CAST] > 5
    tensors = sum(np.prod(shape) for shape in models.SHAPES.values()) * 2
    assert own_bytes(narrow) < 0.02 * tensors


def test_a_narrow_model_stored_again_wide_costs_next_to_nothing(store: Store, tmp_path: Path) -> None:
    narrow = put(store, "narrow", as_file(model(), DType.BF16), tmp_path)
    wide = put(store, "wide", as_file(models.rounded(model(), DType.BF16)), tmp_path)
    assert codecs(wide)[CodecId.CAST] > 5
    assert own_bytes(wide) < 0.05 * own_bytes(narrow)


def test_a_vocabulary_that_grew_is_coded_on_the_part_that_was_there(store: Store, tmp_path: Path) -> None:
    put(store, "v1", as_file(model()), tmp_path)
    more = trained(model(), 1e-7)
    more["embedding.weight"] = np.concatenate([more["embedding.weight"], model(9)["embedding.weight"][:100]])
    second = put(store, "v2", as_file(more), tmp_path)
    grown = more["embedding.weight"].nbytes
    assert own_bytes(second) < 0.5 * len(as_file(more))
    assert codecs(second)[CodecId.CAST] >= 1, "the chunk in which the old rows end"
    assert grown > 2000 * 128 * 4


def test_renamed_and_reordered_tensors_find_what_they_were(store: Store, tmp_path: Path) -> None:
    put(store, "v1", as_file(model()), tmp_path)
    later = trained(model(), 1e-7)
    renamed = {f"module.{name}": later[name] for name in reversed(later)}
    second = put(store, "v2", as_file(renamed), tmp_path)
    assert codecs(second)[CodecId.DELTA] > 5


def test_a_merged_adapter_is_stored_as_its_factors(store: Store, tmp_path: Path) -> None:
    put(store, "base", as_file(model()), tmp_path)
    tuned = put(store, "tuned", as_file(merged(model(), models.adapter(strength=3))), tmp_path)
    assert codecs(tuned)[CodecId.LOWRANK] == 3
    assert len(tuned.table) > len(np.unique(tuned.sequence)) + 3, "factors are chunks that no file has"


def test_an_adapter_that_is_given_needs_not_be_found(store: Store, tmp_path: Path) -> None:
    sides = models.adapter(strength=3)
    put(store, "base", as_file(model(), DType.BF16), tmp_path)
    directory = models.save_adapter(tmp_path / "adapter", sides)
    file = as_file(merged(models.rounded(model(), DType.BF16), sides), DType.BF16)
    tuned = put(store, "tuned", file, tmp_path, adapter=directory, base="base")
    changed = sum(192 * 192 * 2 for name in sides)
    rows = [row for row in np.unique(tuned.sequence) if tuned.table.codec[row] == CodecId.LOWRANK]
    assert len(rows) == 3
    assert int(tuned.table.stored[rows].sum()) < 0.03 * changed


def test_an_adapter_that_is_none_is_refused_before_anything_is_stored(store: Store, tmp_path: Path) -> None:
    (tmp_path / "adapter").mkdir()
    with pytest.raises(AdapterUnusable, match=r"adapter_config\.json cannot be read"):
        put(store, "tuned", as_file(model()), tmp_path, adapter=tmp_path / "adapter")
    assert not list(store.transport.list("tree/"))


def test_without_deltas_every_chunk_stands_by_itself(store: Store, tmp_path: Path) -> None:
    put(store, "v1", as_file(model()), tmp_path)
    second = put(store, "v2", as_file(trained(model())), tmp_path, deltas=False)
    assert not len(second.table.base)


def test_a_store_may_be_set_to_do_without_deltas(store_url: str, tmp_path: Path) -> None:
    store = Store.init(store_url, msgspec.structs.replace(ROOMY, deltas=Deltas(enabled=False)))
    put(store, "v1", as_file(model()), tmp_path)
    assert not len(put(store, "v2", as_file(trained(model())), tmp_path).table.base)


def test_the_base_that_is_named_is_the_one_that_serves(store: Store, tmp_path: Path) -> None:
    put(store, "far", as_file(trained(model(), 1e-3)), tmp_path)
    put(store, "near", as_file(trained(model(), 1e-6)), tmp_path)
    named = put(store, "v2", as_file(model()), tmp_path, base="far")
    far = set(store.manifest("far").table.packs)
    assert far & set(named.table.packs)
    assert not set(store.manifest("near").table.packs) - far & set(named.table.packs)


def test_the_base_of_a_directory_is_found_file_by_file(store: Store, tmp_path: Path) -> None:
    for version, rate in (("a", 0.0), ("b", 1e-7)):
        directory = tmp_path / version
        directory.mkdir()
        for n in range(2):
            (directory / f"shard-{n}.safetensors").write_bytes(as_file(trained(model(n), rate)))
    store.put(tmp_path / "a", "models/a")
    store.put(tmp_path / "b", "models/b", base="models/a")
    for n in range(2):
        assert codecs(store.manifest(f"models/b/shard-{n}.safetensors"))[CodecId.DELTA] > 5


def test_a_base_that_is_not_there_is_told_before_anything_is_read(store: Store, tmp_path: Path) -> None:
    with pytest.raises(PathMissing, match="nowhere does not exist"):
        put(store, "v2", as_file(model()), tmp_path, base="nowhere")


def test_the_nearest_of_several_earlier_models_serves(store: Store, tmp_path: Path) -> None:
    put(store, "near", as_file(model()), tmp_path)
    for seed in (1, 2):
        put(store, f"unrelated-{seed}", as_file(model(seed)), tmp_path)
    second = put(store, "v2", as_file(trained(model(), 1e-7)), tmp_path)
    assert codecs(second)[CodecId.DELTA] > 5


def stepped(before: models.Model, seed: int) -> models.Model:
    """One number of a hundred goes to the next that its type has."""
    rng = np.random.default_rng(seed)
    return {
        name: (values.view("<i4") + (rng.random(values.shape) < 0.01)).astype("<i4").view("<f4")
        for name, values in before.items()
    }


@pytest.mark.parametrize(
    ("codec", "step"),
    [(CodecId.DELTA, lambda before, seed: trained(before, 1e-7, seed)), (CodecId.SPARSE, stepped)],
    ids=["most numbers change", "few numbers change"],
)
def test_chains_are_short_and_begin_anew_when_they_get_long(
    codec: CodecId, step: Callable[[models.Model, int], models.Model], store: Store, tmp_path: Path
) -> None:
    current, longest = model(), []
    for version in range(12):
        manifest = put(store, f"v{version}", as_file(current), tmp_path)
        assert codecs(manifest)[codec] > 5 or not version
        longest.append(max(depths(manifest)))
        current = step(current, 101 + version)
    assert max(longest) == ROOMY.deltas.depth
    assert longest[:5] == [0, 1, 2, 3, 4]
    assert min(longest[5:]) < 4


def test_where_a_delta_does_not_pay_a_version_stands_by_itself(store: Store, tmp_path: Path) -> None:
    put(store, "v1", as_file(model(0)), tmp_path)
    assert not len(put(store, "v2", as_file(model(1)), tmp_path).table.base)


def test_a_base_that_is_removed_keeps_its_chunks_until_those_that_need_them_go(store: Store, tmp_path: Path) -> None:
    file = as_file(trained(model(), 1e-7))
    put(store, "v1", as_file(model()), tmp_path)
    put(store, "v2", file, tmp_path)
    store.rm("v1")
    collected(store)
    with store.open("v2") as reader:
        assert reader.read() == file
    store.rm("v2")
    collected(store)
    assert not list(store.transport.list("packs/"))


def test_a_base_that_is_damaged_costs_bytes_and_no_more(store: Store, tmp_path: Path) -> None:
    first = put(store, "v1", as_file(model()), tmp_path)
    for pack in first.table.packs:
        key = pack_key(pack)
        data = bytes(store.transport.read(key))
        store.transport.write(key, flipped(data, 8 * (len(data) // 3)))
    second = put(store, "v2", as_file(trained(model(), 1e-7)), tmp_path)
    whole = put(store, "v3", as_file(model(3)), tmp_path)
    assert own_bytes(second) <= 1.05 * own_bytes(whole)


def test_the_base_that_is_named_must_be_intact(store: Store, tmp_path: Path) -> None:
    first = put(store, "v1", as_file(model()), tmp_path)
    for pack in first.table.packs:
        key = pack_key(pack)
        data = bytearray(store.transport.read(key))
        data[1000:-1000] = bytes(len(data) - 2000)
        store.transport.write(key, bytes(data))
    source = tmp_path / "v2"
    source.write_bytes(as_file(trained(model(), 1e-7)))
    with pytest.raises(ChunkDamaged, match="of v1 in pack"):
        store.put(source, "v2", base="v1")


def test_a_base_that_was_collected_under_a_put_is_done_without(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = put(store, "v1", as_file(model()), tmp_path)
    plain, gone = PlainChunks.of, []

    def collected(self: PlainChunks, rows: object) -> object:
        found = plain(self, rows)  # type: ignore[arg-type]
        gone.append(1)
        if len(gone) == 20:
            for pack in first.table.packs:
                store.transport.delete(pack_key(pack))
        return found

    monkeypatch.setattr(PlainChunks, "of", collected)
    source = tmp_path / "v2"
    source.write_bytes(as_file(trained(model(), 1e-7)))
    store.put(source, "v2")
    monkeypatch.undo()
    with store.open("v2") as reader:
        assert reader.read() == source.read_bytes()


def test_a_version_whose_base_is_gone_is_an_error_that_names_it(store: Store, tmp_path: Path) -> None:
    first = put(store, "v1", as_file(model()), tmp_path)
    put(store, "v2", as_file(trained(model(), 1e-7)), tmp_path)
    for pack in first.table.packs:
        store.transport.delete(pack_key(pack))
    with pytest.raises(PackMissing, match="of v2 is not in the store"):
        store.get("v2", tmp_path / "back")
    assert not (tmp_path / "back").exists()


@pytest.mark.parametrize("calls", range(1, 12, 2))
def test_a_put_of_a_delta_that_is_killed_goes_on_and_ends_as_if_it_had_not(
    store: Store, reopened: Callable[[], Store], tmp_path: Path, calls: int
) -> None:
    put(store, "v1", as_file(model()), tmp_path)
    source = tmp_path / "v2"
    source.write_bytes(as_file(trained(model(), 1e-7)))
    with contextlib.suppress(Crash):
        mortal(store, Fate(calls)).put(source, "v2")
    survivor = reopened()
    survivor.put(source, "v2")
    with survivor.open("v2") as reader:
        assert reader.read() == source.read_bytes()


def test_a_stream_is_stored_without_bases(store: Store) -> None:
    file = as_file(model())
    store.put(io.BytesIO(file), "v1")
    store.put(io.BytesIO(as_file(trained(model(), 1e-7))), "v2")
    with store.open("v1") as reader:
        assert reader.read() == file
