"""What a logged model has to do with another: found before it is written, and noted on it when it is."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass

import mlflow
from mlflow.entities import LoggedModelInput
from mlflow.models import Model

from shardflow.errors import ShardflowError
from shardflow.flavor.card import codecs_of
from shardflow.flavor.changes import BASES_NEEDED, Changes, changes_between
from shardflow.flavor.errors import ModelMissing
from shardflow.flavor.folders import StoreFolder
from shardflow.flavor.places import is_store_url, is_there, located
from shardflow.flavor.plans import Plan
from shardflow.flavor.relatives import most_alike
from shardflow.flavor.tensor_digests import TensorDigests, changes_by_digests, logged_digests
from shardflow.flavor.writing import Written
from shardflow.store.errors import PathMissing, StoreMissing
from shardflow.store.store import Store

_MODEL_ID = re.compile(r"/models/(m-[0-9a-f]{32})(/|$)")
_LONGEST = 5000  # of a tag; MLflow refuses longer ones
_logger = logging.getLogger("mlflow.shardflow")  # under MLflow's own, whose level and handler the user has set


@dataclass(frozen=True, slots=True)
class Parent:
    """The model that another was made from."""

    uri: str
    url: str | None  # of its weights, if they are in a store
    model_id: str | None
    named: bool = True  # by whoever logged the other; or else found in the store, being most like it


def model_id_in(location: str) -> str | None:
    """The logged model whose artifacts lie there."""
    found = _MODEL_ID.search(location)
    return found[1] if found else None


def parent_of(base_model: str | None, weights: str, target: str | None = None) -> Parent | None:
    """The model that a URI names, which must exist; `weights` is where in a model its weights are.

    `target` is the URL in a store that the other model's weights go to, if they do.
    """
    if base_model is None:
        return None
    location = located(base_model)
    model_id = model_id_in(location)
    if not is_store_url(location):
        if not is_there(location):
            raise ModelMissing(f"{base_model} has nothing at {location}", remedy="name a model that was logged")
        if target is not None:
            _warn_of(base_model, "is not in a store")
        return Parent(base_model, None, model_id)
    store, path = Store.find(location)
    if target is not None and not _is_in(store, target):
        _warn_of(base_model, f"is in another store, {store.url}")
    for candidate in (f"{path}/{weights}", path):
        try:
            store.kind(candidate)
        except PathMissing:
            continue
        return Parent(base_model, str(store.url.joined(candidate)), model_id)
    raise ModelMissing(f"{base_model} has nothing at {location}", remedy="name a model that was logged to the end")


def found_parent(url: str, written: Written) -> Parent | None:
    """The stored model that weights in a store share most with, if they were coded with the help of any."""
    if not written.reused and not BASES_NEEDED & written.codecs.keys():
        return None
    store, path = Store.find(url)
    largest = max(written.files, key=lambda file: file.size).name
    largest = f"{path}/{largest}" if path else largest
    found = most_alike(store, largest, written.looked_at.get(largest, ()))
    model_id = model_id_in(f"/{found}") if found else None
    if found is None or model_id is None:
        return None
    return Parent(f"models:/{model_id}", str(store.url.joined(found)), model_id, named=False)


def changes_from(parent: Parent | None, url: str | None) -> Changes | None:
    """What is different from the parent, where both are in stores."""
    if parent is None or parent.url is None or url is None:
        return None
    try:
        before, after = (StoreFolder(*Store.find(place)) for place in (parent.url, url))
        return changes_between(before, after)
    except ShardflowError as error:
        _logger.warning("What changed from %s is not noted: %s", parent.uri, error.message)
        return None


def changes_told_by_digests(parent: Parent | None, own: TensorDigests, weights: str) -> Changes | None:
    """What is different from the parent, where this client sees no store of either: in tensors, not in chunks."""
    if parent is None or parent.url is not None:
        return None
    try:
        before = logged_digests(located(parent.uri), weights)
    except ShardflowError as error:
        _logger.warning("What changed from %s is not noted: %s", parent.uri, error.message)
        return None
    return None if before is None else changes_by_digests(before, own)


def note(
    mlflow_model: Model, plan: Plan, written: Written, parent: Parent | None, changes: Changes | None = None
) -> None:
    """Put the figures on the logged model: parameters where they are fixed, tags where a second run changes them."""
    if mlflow_model.model_id is None:
        return
    client = mlflow.MlflowClient()
    model = client.get_logged_model(mlflow_model.model_id)
    facts = {name: value for name, value in _facts(plan, parent).items() if name not in model.params}
    if facts:
        client.log_model_params(model.model_id, facts)
    tags = {name: value[:_LONGEST] for name, value in {**_sent(written), **_lineage(parent, changes)}.items()}
    if tags:
        client.set_logged_model_tags(model.model_id, tags)
    if parent and parent.named and parent.model_id and mlflow_model.run_id:
        client.log_inputs(mlflow_model.run_id, models=[LoggedModelInput(parent.model_id)])


def _facts(plan: Plan, parent: Parent | None) -> Mapping[str, str]:
    facts = {
        "shardflow.bytes": str(plan.size),
        "shardflow.tensors": str(sum(len(shard.tensors) for shard in plan.shards)),
        "shardflow.files": str(len(plan.shards)),
        "shardflow.sharding": plan.method,
    }
    return facts | ({"shardflow.base_model": parent.uri} if parent and parent.named else {})


def _sent(written: Written) -> dict[str, str]:
    if written.sent is None or written.reused is None:
        return {}
    tags = {"shardflow.bytes_sent": str(written.sent), "shardflow.bytes_reused": str(written.reused)}
    return tags | ({"shardflow.chunks": codecs_of(written)} if written.codecs else {})


def _lineage(parent: Parent | None, changes: Changes | None) -> dict[str, str]:
    tags = {}
    if parent and parent.model_id:
        tags["shardflow.parent" if parent.named else "shardflow.found_base"] = parent.model_id
    if changes is None:
        return tags
    if changes.chunks is not None:
        tags["shardflow.delta"] = changes.kinds
    for status, amount in changes.tensors.items():
        word = status.replace(" ", "_")
        tags[f"shardflow.tensors_{word}"] = str(amount.count)
        tags[f"shardflow.bytes_{word}"] = str(amount.size)
    return tags


def _is_in(store: Store, target: str) -> bool:
    try:
        return Store.find(target)[0].config.id == store.config.id
    except StoreMissing:
        return False


def _warn_of(base_model: str, why: str) -> None:
    _logger.warning(
        "%s %s: nothing can be stored as the difference from it. 'shardflow migrate' takes models into a store.",
        base_model, why,
    )  # fmt: skip
