"""What a logged model has to do with another: found before it is written, and noted on it when it is."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import mlflow
from mlflow.entities import LoggedModelInput
from mlflow.models import Model

from shardflow.flavor.card import codecs_of
from shardflow.flavor.errors import ModelMissing
from shardflow.flavor.places import is_store_url, located
from shardflow.flavor.plans import Plan
from shardflow.flavor.writing import Written
from shardflow.store.errors import PathMissing
from shardflow.store.store import Store

_MODEL_ID = re.compile(r"/models/(m-[0-9a-f]{32})(/|$)")


@dataclass(frozen=True, slots=True)
class Parent:
    """The model that another was made from."""

    uri: str
    url: str | None  # of its weights, if they are in a store
    model_id: str | None


def parent_of(base_model: str | None, weights: str) -> Parent | None:
    """The model that a URI names, which must exist; `weights` is where in a model its weights are."""
    if base_model is None:
        return None
    location = located(base_model)
    found = _MODEL_ID.search(location)
    model_id = found[1] if found else None
    if not is_store_url(location):
        return Parent(base_model, None, model_id)
    store, path = Store.find(location)
    for candidate in (f"{path}/{weights}", path):
        try:
            store.kind(candidate)
        except PathMissing:
            continue
        return Parent(base_model, str(store.url.joined(candidate)), model_id)
    raise ModelMissing(f"{base_model} has nothing at {location}", remedy="name a model that was logged to the end")


def note(mlflow_model: Model, plan: Plan, written: Written, parent: Parent | None) -> None:
    """Put the figures on the logged model: parameters where they are fixed, tags where a second run changes them."""
    if mlflow_model.model_id is None:
        return
    client = mlflow.MlflowClient()
    model = client.get_logged_model(mlflow_model.model_id)
    facts = {name: value for name, value in _facts(plan, parent).items() if name not in model.params}
    if facts:
        client.log_model_params(model.model_id, facts)
    tags = {
        name: str(value)
        for name, value in (("shardflow.bytes_sent", written.sent), ("shardflow.bytes_reused", written.reused))
        if value is not None
    }
    if written.codecs:
        tags["shardflow.chunks"] = codecs_of(written)
    if parent and parent.model_id:
        tags["shardflow.parent"] = parent.model_id
    if tags:
        client.set_logged_model_tags(model.model_id, tags)
    if parent and parent.model_id and mlflow_model.run_id:
        client.log_inputs(mlflow_model.run_id, models=[LoggedModelInput(parent.model_id)])


def _facts(plan: Plan, parent: Parent | None) -> Mapping[str, str]:
    facts = {
        "shardflow.bytes": str(plan.size),
        "shardflow.files": str(len(plan.shards)),
        "shardflow.sharding": plan.method,
    }
    return facts | ({"shardflow.base_model": parent.uri} if parent else {})
