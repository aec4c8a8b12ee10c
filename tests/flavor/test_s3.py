"""A model in object storage is streamed from there: what is loaded passes neither the cache nor any other file."""

from __future__ import annotations

import os
from pathlib import Path

import mlflow
import pytest

from flavor.models import NET, net, same
from services.fixtures import fresh_url
from services.service import Service
from shardflow import flavor


def test_a_model_is_logged_to_s3_and_loaded_from_it(
    moto: Service, tracking_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in moto.env.items():
        monkeypatch.setenv(name, value)
    url = fresh_url(moto)
    mlflow.set_experiment(experiment_id=mlflow.create_experiment(f"at {url}", artifact_location=f"{url}/artifacts"))
    info = flavor.log_model(net(), name="net", factory=NET, max_shard_bytes=100_000)
    assert same(flavor.load_model(info.model_uri), net())
    assert [file for file in Path(os.environ["SHARDFLOW_CACHE"]).rglob("*") if file.is_file()] == []
