"""Versions of a registered model, each trained on from the one before, come into a store as what they differ by."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mlflow
import pytest

from flavor.outside import coded_against, done_id, fetched, tree, weights
from services.fixtures import fresh_url
from services.service import Service
from shardflow import flavor
from shardflow.flavor.moving import copying
from shardflow.store.progress import Progress
from shardflow.store.sources import Source
from shardflow.store.store import Store
from shardflow.transport import NoSpace

NUMBERS = (1, 2, 3)


@pytest.fixture(params=["disk", pytest.param("s3", marks=pytest.mark.service("ceph"))])
def model(request: pytest.FixtureRequest, tracking_uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A registered model of three versions, whose artifacts are where MLflow itself puts them."""
    root = (tmp_path / "artifacts").as_uri()
    if request.param == "s3":
        ceph: Service = request.getfixturevalue("ceph")
        root = fresh_url(ceph).removeprefix("shardflow://").replace("s3/", "s3://", 1)
        for name, value in {**ceph.env, "MLFLOW_S3_ENDPOINT_URL": ceph.endpoint}.items():
            monkeypatch.setenv(name, value)
    name = f"line on {request.param}"
    mlflow.set_experiment(experiment_id=mlflow.create_experiment(name, artifact_location=root))
    for step in NUMBERS:
        flavor.log_model(weights(step), name="line", registered_model_name=name)
    return name


def packed(store: Store) -> int:
    return sum(info.size for info in store.transport.list("packs/"))


def broken_off_at(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk is full when this version is to be put."""
    put = copying.put_sources

    def full(store: Store, sources: Sequence[Source], path: str, **how: Any) -> Progress:
        if path.endswith(f"/{number}"):
            raise NoSpace("no room is left")
        return put(store, sources, path, **how)

    monkeypatch.setattr(copying, "put_sources", full)


def test_each_version_is_stored_as_a_delta_of_the_one_before_also_by_a_run_that_goes_on(
    large: Store, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as broken:
        broken_off_at(3, broken)
        with pytest.raises(NoSpace):
            flavor.migrate(str(large.url), model=model)
    two = packed(large)
    done = flavor.migrate(str(large.url), model=model)
    assert [version.state for version in done.versions] == ["was there", "was there", "moved"]

    first, *later = done.versions
    assert first.stored > 0.8 * first.bytes
    assert all(version.stored < 0.75 * version.bytes for version in later)
    assert two < first.stored + 0.8 * later[0].bytes, "what the packs take is what is told"
    assert packed(large) - two < 0.8 * later[1].bytes
    files = [f"{model}/{number}/weights/model.safetensors" for number in NUMBERS]
    assert [coded_against(large, files[n + 1], files[n]) > 20 for n in (0, 1)] == [True, True]

    for number in NUMBERS:
        logged = f"models:/{done_id(mlflow.MlflowClient().get_model_version(model, str(number)))}"
        original = mlflow.artifacts.download_artifacts(logged, dst_path=str(tmp_path / f"original-{number}"))
        Path(original, "registered_model_meta").unlink()  # MLflow writes it beside what it downloads
        assert fetched(large, f"{model}/{number}", tmp_path / f"back-{number}") == tree(Path(original))
