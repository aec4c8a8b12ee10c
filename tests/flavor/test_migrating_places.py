"""Checkpoints come into a store from a bucket, from another store, and from the disk."""

from __future__ import annotations

import os
from pathlib import Path

import boto3
import pytest
from safetensors.torch import save_file

from flavor.outside import checkpoints, fetched, tree, weights
from services.fixtures import fresh_url
from services.service import Service
from shardflow import flavor
from shardflow.flavor.moving.originals import ObjectSource
from shardflow.flavor.moving.versions import NothingToMove
from shardflow.store.errors import PathMissing
from shardflow.store.store import Store
from shardflow.transport import StoreURL, connect


def test_files_without_numbers_come_by_their_time(large: Store, tmp_path: Path) -> None:
    for age, name in enumerate(["new", "older", "oldest"]):
        save_file(weights(age), tmp_path / f"{name}.safetensors")
        (tmp_path / "in").mkdir(exist_ok=True)
        (tmp_path / f"{name}.safetensors").rename(tmp_path / "in" / f"{name}.safetensors")
        os.utime(tmp_path / "in" / f"{name}.safetensors", (1e9 - age, 1e9 - age))
    by_time = flavor.migrate(str(large.url), source=str(tmp_path / "in"), dry_run=True)
    assert [version.name.partition(".")[0] for version in by_time.versions] == ["oldest", "older", "new"]
    by_name = flavor.migrate(str(large.url), source=str(tmp_path / "in"), dry_run=True, order="name")
    assert [version.name.partition(".")[0] for version in by_name.versions] == ["new", "older", "oldest"]
    assert {version.state for version in by_name.versions} == {"to be moved"}
    assert list(large.ls()) == []
    flavor.migrate(str(large.url), source=str(tmp_path / "in"))
    assert large.open("new.safetensors").read() == (tmp_path / "in" / "new.safetensors").read_bytes()


def test_a_directory_that_is_a_model_is_one_version(large: Store, tmp_path: Path) -> None:
    source = checkpoints(tmp_path / "checkpoints", (5,)) / "checkpoint-5"
    (source / "empty").mkdir()
    done = flavor.migrate(f"{large.url}/llama", source=str(source))
    assert [(version.name, version.url) for version in done.versions] == [("", f"{large.url}/llama")]
    assert fetched(large, "llama", tmp_path / "back") == tree(source)
    assert (tmp_path / "back" / "empty").is_dir()
    assert flavor.migrate(f"{large.url}/llama", source=str(source)).versions[0].state == "was there"
    one = flavor.migrate(f"{large.url}/file", source=str(source / "config.json"))
    assert [version.name for version in one.versions] == ["config.json"]


def test_models_come_out_of_another_store(large: Store, store: Store, tmp_path: Path) -> None:
    source = checkpoints(tmp_path / "checkpoints")
    store.put(source, "run")
    done = flavor.migrate(f"{large.url}/run", source=f"{store.url}/run")
    assert [version.state for version in done.versions] == ["moved"] * 3
    assert fetched(large, "run", tmp_path / "back") == tree(source)
    assert {version.state for version in flavor.migrate(f"{large.url}/x", source=f"{large.url}/run").versions} == {
        "in a store"
    }


def test_the_path_of_a_store_on_the_disk_means_what_is_stored_there(large: Store, store: Store, tmp_path: Path) -> None:
    """Not the objects that it is made of."""
    store.put(checkpoints(tmp_path / "checkpoints", (1, 2)), "")
    for source in (store.url.path, f"{store.url.path}/checkpoint-2"):
        done = flavor.migrate(f"{large.url}/run", source=source, dry_run=True)
        assert {version.name for version in done.versions} <= {"checkpoint-1", "checkpoint-2", ""}
        assert {version.source for version in done.versions} <= {
            str(store.url.joined("checkpoint-1")), str(store.url.joined("checkpoint-2")), source,
        }  # fmt: skip
    with pytest.raises(PathMissing, match="nothing does not exist"):
        flavor.migrate(str(large.url), source=f"{store.url.path}/nothing")
    with pytest.raises(NothingToMove, match=r"nowhere does not exist; name a directory, a bucket"):
        flavor.migrate(str(large.url), source=str(tmp_path / "nowhere"))


def test_checkpoints_are_streamed_out_of_a_bucket(
    large: Store, moto: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable, value in moto.env.items():
        monkeypatch.setenv(variable, value)
    source = checkpoints(tmp_path / "checkpoints")
    moto.make_bucket("checkpoints")
    client = boto3.client("s3", endpoint_url=moto.endpoint)
    for name, data in tree(source).items():
        client.put_object(Bucket="checkpoints", Key=f"runs/7/{name}", Body=data)
    done = flavor.migrate(f"{large.url}/run", source="s3://checkpoints/runs/7", reread=True)
    assert [version.name for version in done.versions] == ["checkpoint-2", "checkpoint-10", "checkpoint-100"]
    assert done.versions[2].stored < 0.8 * done.versions[2].bytes
    assert fetched(large, "run", tmp_path / "back") == tree(source)
    assert {v.state for v in flavor.migrate(f"{large.url}/run", source="s3://checkpoints/runs/7").versions} == {
        "was there"
    }
    client.put_object(Bucket="checkpoints", Key="runs/7/checkpoint-10/config.json", Body=b'{"step": 1}')
    again = flavor.migrate(f"{large.url}/run", source="s3://checkpoints/runs/7")
    assert [version.state for version in again.versions] == ["was there", "moved", "was there"]
    with pytest.raises(NothingToMove, match="nothing in it"):
        flavor.migrate(f"{large.url}/run", source="s3://checkpoints/nowhere")


def test_an_object_that_changes_while_it_is_read_is_not_taken(
    moto: Service, large: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable, value in moto.env.items():
        monkeypatch.setenv(variable, value)
    moto.make_bucket("changing")
    client = boto3.client("s3", endpoint_url=moto.endpoint)
    client.put_object(Bucket="changing", Key="in/step-1", Body=b"a" * 100_000)
    opened = ObjectSource.open

    def changed_while_open(source: ObjectSource) -> object:
        client.put_object(Bucket="changing", Key="in/step-1", Body=b"b" * 100_000)
        return opened(source)

    monkeypatch.setattr(ObjectSource, "open", changed_while_open)
    (version,) = flavor.migrate(str(large.url), source="s3://changing/in").versions
    assert (version.state, "changed while it was being read" in version.problem) == ("failed", True)
    assert not [entry for entry in large.ls() if entry.path == "step-1"]


@pytest.mark.parametrize("cloud", ["gcs", pytest.param("azure", marks=pytest.mark.service("azure"))])
def test_checkpoints_are_streamed_out_of_google_and_azure(
    cloud: str, request: pytest.FixtureRequest, large: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service: Service = request.getfixturevalue(cloud)
    source = checkpoints(tmp_path / "checkpoints")
    place = StoreURL.parse(fresh_url(service, ""))
    bucket = connect(place, service.options)
    for name, data in tree(source).items():
        bucket.write(f"runs/7/{name}", data)
    url = f"{place.backend}://{place.bucket}/runs/7"
    done = flavor.migrate(f"{large.url}/run", source=url, source_options=service.options, reread=True)
    assert [version.state for version in done.versions] == ["moved"] * 3
    assert done.versions[2].stored < 0.8 * done.versions[2].bytes
    assert fetched(large, "run", tmp_path / "back") == tree(source)
    again = flavor.migrate(f"{large.url}/run", source=url, source_options=service.options)
    assert [version.state for version in again.versions] == ["was there"] * 3

    bucket.write("runs/7/checkpoint-10/config.json", b'{"step": 1}')
    for variable, value in service.env.items():
        monkeypatch.setenv(variable, value)
    changed = flavor.migrate(f"{large.url}/run", source=url)
    assert [version.state for version in changed.versions] == ["was there", "moved", "was there"]
    with pytest.raises(NothingToMove, match="nothing in it"):
        flavor.migrate(f"{large.url}/run", source=f"{place.backend}://{place.bucket}/nowhere")
