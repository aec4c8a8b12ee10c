"""`put` says what it stored against what, and takes the caller's word for a base."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from cli.conftest import Outcome
from delta import models
from delta.models import as_file, merged, model, trained
from shardflow.store.store import Store

Command = Callable[..., Outcome]


@pytest.fixture
def versions(tmp_path: Path) -> Path:
    (tmp_path / "v1.safetensors").write_bytes(as_file(model()))
    (tmp_path / "v2.safetensors").write_bytes(as_file(trained(model(), 1e-7)))
    (tmp_path / "tuned.safetensors").write_bytes(as_file(merged(model(), models.adapter())))
    models.save_adapter(tmp_path / "adapter", models.adapter())
    Store.init(str(tmp_path / "store"))
    return tmp_path


def test_put_says_how_much_rests_on_earlier_versions(versions: Path, shardflow: Command) -> None:
    store = versions / "store"
    first = shardflow("put", versions / "v1.safetensors", store / "v1")
    assert "differ from earlier versions" not in first.out
    second = shardflow("put", versions / "v2.safetensors", store / "v2")
    assert "2.8 MiB are stored by how they differ from earlier versions" in second.out


def test_without_deltas_nothing_does(versions: Path, shardflow: Command) -> None:
    store = versions / "store"
    shardflow("put", versions / "v1.safetensors", store / "v1")
    done = shardflow("put", versions / "v2.safetensors", store / "v2", "--no-delta", "--json")
    assert done.document["bytes_on_bases"] == 0


@pytest.mark.parametrize("absolute", [True, False])
def test_a_base_is_named_by_its_place_in_the_store(versions: Path, shardflow: Command, absolute: bool) -> None:
    store = versions / "store"
    shardflow("put", versions / "v1.safetensors", store / "base")
    base = str(store / "base") if absolute else f"shardflow://file{store.resolve()}/base"
    tuned = versions / "tuned.safetensors"
    done = shardflow("put", tuned, store / "tuned", "--base", base, "--adapter", versions / "adapter", "--json")
    assert done.document["bytes_on_bases"] > 300_000


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--base", "nowhere"], "nowhere does not exist"),
        (["--base", "shardflow://s3/bucket/x"], "is not in the store at"),
        (["--base", "base", "--no-delta"], "for a put without deltas; leave one or the other out"),
        (["--adapter", "none"], "none is no adapter that can be used: adapter_config.json cannot be read"),
    ],
)
def test_what_cannot_serve_is_told_before_anything_is_stored(
    versions: Path, shardflow: Command, options: list[str], complaint: str
) -> None:
    store = versions / "store"
    shardflow("put", versions / "v1.safetensors", store / "base")
    refused = shardflow("put", versions / "v2.safetensors", store / "v2", *options)
    assert refused.code != 0
    assert complaint in refused.err
    assert shardflow("stat", store / "v2").code != 0


def test_a_store_keeps_to_what_init_said_of_deltas(versions: Path, shardflow: Command) -> None:
    store = versions / "other"
    made = shardflow("init", store, "--no-deltas", "--delta-depth", "7", "--json")
    assert made.document["settings"]["deltas"] == {
        "enabled": False,
        "depth": 7,
        "candidates": 2,
        "worth": 0.9,
        "low_rank": 256,
    }
    shardflow("put", versions / "v1.safetensors", store / "v1")
    done = shardflow("put", versions / "v2.safetensors", store / "v2", "--json")
    assert done.document["bytes_on_bases"] == 0


def test_settings_that_make_no_sense_are_refused(versions: Path, shardflow: Command) -> None:
    refused = shardflow("init", versions / "other", "--delta-depth", "0")
    assert refused.code == 2
    assert "a depth from 1 to 64" in refused.err
