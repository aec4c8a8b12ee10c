"""A comparison tells for each tensor what became of it, and what leads from one version to the other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from delta import models
from delta.models import Model, as_file, merged, model, trained
from shardflow.dtype import DType
from shardflow.patch import compare
from shardflow.patch.comparing import Comparison, TensorChange
from shardflow.store.errors import PathMissing, SourceUnusable
from shardflow.store.store import Store


def compared(tmp_path: Path, before: bytes, after: bytes) -> Comparison:
    (tmp_path / "a").write_bytes(before)
    (tmp_path / "b").write_bytes(after)
    return compare(tmp_path / "a", tmp_path / "b")


def by_name(found: Comparison) -> dict[str, TensorChange]:
    return {tensor.name: tensor for tensor in found.tensors}


def test_a_model_is_equal_to_itself(tmp_path: Path) -> None:
    found = compared(tmp_path, as_file(model()), as_file(model()))
    assert found.equal
    assert found.counts == {"equal": 11, "changed": 0, "added": 0, "removed": 0}
    assert found.as_dict()["delta_bytes"] == 0


def test_each_tensor_tells_what_became_of_it(tmp_path: Path) -> None:
    after: Model = trained(model(), 1e-7) | {"head.weight": model()["head.weight"], "new": np.ones((8, 8), "<f4")}
    del after["embedding.weight"]
    found = by_name(compared(tmp_path, as_file(model()), as_file(after)))
    assert found["head.weight"].status == "equal"
    assert found["new"].status == "added"
    assert found["embedding.weight"].status == "removed"
    changed = found["layers.0.mlp.weight"]
    assert (changed.status, changed.kind) == ("changed", "delta")
    assert changed.changed is not None
    assert 0.5 < changed.changed <= 1
    assert 0 < changed.stored < 0.4 * changed.size


def test_the_share_of_elements_is_counted(tmp_path: Path) -> None:
    after = model()
    after["head.weight"] = after["head.weight"].copy()
    after["head.weight"][:500] += 1
    found = by_name(compared(tmp_path, as_file(model()), as_file(after)))
    assert found["head.weight"].changed == 0.25


def test_casts_renamings_growth_and_merged_adapters_have_their_kinds(tmp_path: Path) -> None:
    narrow = by_name(compared(tmp_path, as_file(model()), as_file(model(), DType.BF16)))["head.weight"]
    assert (narrow.kind, narrow.dtype_was, narrow.changed) == ("cast", "F32", None)
    renamed = {f"module.{name}": values for name, values in model().items()}
    wrapped = by_name(compared(tmp_path, as_file(model()), as_file(renamed)))["module.head.weight"]
    assert (wrapped.was, wrapped.status) == ("head.weight", "equal")
    grown = model() | {"head.weight": np.concatenate([model()["head.weight"], np.ones((50, 128), "<f4")])}
    assert by_name(compared(tmp_path, as_file(model()), as_file(grown)))["head.weight"].status == "changed"
    tuned = as_file(merged(model(), models.adapter(strength=3)))
    assert by_name(compared(tmp_path, as_file(model()), tuned))["layers.1.attention.weight"].kind == "lowrank"


def test_directories_are_compared_file_by_file_wherever_a_tensor_went(tmp_path: Path) -> None:
    for version, names in (("a", ["x.safetensors", "y.safetensors"]), ("b", ["y.safetensors", "z.safetensors"])):
        (tmp_path / version).mkdir()
        for seed, name in enumerate(names, start=version == "b"):
            (tmp_path / version / name).write_bytes(as_file({f"{seed}.{n}": v for n, v in model(seed).items()}))
        (tmp_path / version / "config.json").write_text(version)
    found = compare(tmp_path / "a", tmp_path / "b")
    assert found.counts == {"equal": 11, "changed": 0, "added": 11, "removed": 11}
    assert found.other_files == {"config.json": "changed"}
    assert not found.equal


def test_what_is_in_a_store_is_compared_where_it_is(tmp_path: Path) -> None:
    store = Store.init(f"shardflow://file{tmp_path.resolve()}/store")
    (tmp_path / "m").write_bytes(as_file(model()))
    store.put(tmp_path / "m", "v1/model.safetensors")
    assert compare(f"{store.url}/v1/model.safetensors", tmp_path / "m").equal
    assert compare(f"{store.url}/v1", f"{store.url}/v1").counts["equal"] == 11


def test_a_tensor_that_lost_rows_is_changed_though_all_it_has_was_there(tmp_path: Path) -> None:
    shorter = model() | {"head.weight": model()["head.weight"][:1500]}
    found = compared(tmp_path, as_file(model()), as_file(shorter))
    assert by_name(found)["head.weight"].status == "changed"
    assert not found.equal


def test_models_whose_tensors_have_other_names_are_not_equal(tmp_path: Path) -> None:
    renamed = {f"module.{name}": values for name, values in model().items()}
    found = compared(tmp_path, as_file(model()), as_file(renamed))
    assert found.renamed == found.counts["equal"] == 11
    assert not found.equal


def test_a_tensor_that_moved_to_another_file_is_found_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    parts = list(model().items())
    (tmp_path / "a" / "1.safetensors").write_bytes(as_file(dict(parts[:5])))
    (tmp_path / "a" / "2.safetensors").write_bytes(as_file(dict(parts[5:])))
    (tmp_path / "m").write_bytes(as_file(model()))
    found = compare(tmp_path / "a", tmp_path / "m")
    assert found.counts == {"equal": 11, "changed": 0, "added": 0, "removed": 0}
    assert found.equal


@pytest.mark.parametrize("place", ["nothing", "empty"])
def test_a_place_with_nothing_to_compare_is_named(tmp_path: Path, place: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "m").write_bytes(as_file(model()))
    with pytest.raises((SourceUnusable, PathMissing), match=place):
        compare(tmp_path / place, tmp_path / "m")
