"""Versions that MLflow tracks: found with where they are, told where they are now, and registered anew."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import mlflow
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.utils.file_utils import local_file_uri_to_path

from shardflow.errors import ShardflowError
from shardflow.flavor.lineage import model_id_in
from shardflow.flavor.moving.downloads import InRepository
from shardflow.flavor.moving.originals import InStore, OnDisk, Place
from shardflow.flavor.moving.versions import NothingToMove, Tracked, Version
from shardflow.flavor.places import is_store_url, located
from shardflow.store.store import Store

MOVED_TO, MOVED_FROM = "shardflow.migrated_to", "shardflow.migrated_from"
_KEPT_ALIAS = re.compile(r"draft|testing|staging|production|archived|v\d+-\d+-\d+(-[\w-]+)?", re.ASCII | re.IGNORECASE)
_RESERVED, _STATUS, _PARENTS, _NUMBER = "shardflow.", "shardflow.status", "shardflow.parents", "shardflow.version"


def registered_versions(name: str, scratch: Path) -> list[Version]:
    """The versions of a registered model, in the order of their numbers."""
    client = mlflow.MlflowClient()
    try:
        client.get_registered_model(name)
        found = list(_all_versions(client, name))
    except MlflowException as error:
        raise NothingToMove(f"no model is registered as {name}: {error.message}", remedy="check the name") from None
    versions = [each for each in found if MOVED_FROM not in each.tags]  # what an earlier run registered is no source
    if not versions:
        raise NothingToMove(f"{name} has no versions", remedy="name another model")
    aliases = _aliases(client, name)
    return [_registered(each, aliases, scratch) for each in sorted(versions, key=lambda each: int(each.version))]


def logged_models(experiment: str, scratch: Path) -> list[Version]:
    """The finished models of an experiment, by the time when they were logged."""
    client = mlflow.MlflowClient()
    found = client.get_experiment_by_name(experiment)
    if found is None:
        raise NothingToMove(f"there is no experiment called {experiment}", remedy="check the name and the tracking URI")
    models = sorted(_all_models(client, found.experiment_id), key=lambda model: model.creation_timestamp)
    if not models:
        raise NothingToMove(f"the experiment {experiment} has no logged models", remedy="name another one")
    return [_logged(model, scratch) for model in models]


def tell(version: Version, url: str) -> None:
    """Note on a version of MLflow's where it is now."""
    tracked, client = version.tracked, mlflow.MlflowClient()
    if tracked is None:
        return
    if tracked.name is not None:
        client.set_model_version_tag(tracked.name, tracked.version, MOVED_TO, url)
    if tracked.model_id is not None:
        try:
            client.set_logged_model_tags(tracked.model_id, {MOVED_TO: url})
        except MlflowException:
            if tracked.name is None:
                raise  # of a registered version the logged model may be gone


def register(version: Version, url: str, name: str) -> str:
    """The version of `name` that stands for a moved one; made unless an earlier run did."""
    client, tracked = mlflow.MlflowClient(), version.tracked
    assert tracked is not None
    made = {each.tags.get(MOVED_FROM): each for each in _registered_before(client, name)}.get(version.uri)
    if made is None:
        tags = {**_tags_that_come_along(tracked, name), MOVED_FROM: version.uri}
        made = client.create_model_version(
            name, url, run_id=tracked.run_id, tags=tags, description=tracked.description, model_id=tracked.model_id
        )
    for alias in _aliases_that_come_along(tracked, made) if name != tracked.name else ():
        client.set_registered_model_alias(name, alias, made.version)
    return str(made.version)


def _tags_that_come_along(tracked: Tracked, name: str) -> dict[str, str]:
    """The tags of a version without what a registry keeps of that one alone, such as its status and its statements."""
    kept = {_PARENTS} if name == tracked.name else {_PARENTS, _NUMBER}  # a model has each number once
    tags = tracked.tags or {}
    return {key: value for key, value in tags.items() if key in kept or not key.startswith(_RESERVED)}


def _aliases_that_come_along(tracked: Tracked, made: Any) -> Iterator[str]:
    """The aliases of a version without those that Shardflow's registry sets itself, by status and by number."""
    its_own = _STATUS in made.tags  # elsewhere these are free
    yield from (alias for alias in tracked.aliases if not (its_own and _KEPT_ALIAS.fullmatch(alias)))


def _registered_before(client: Any, name: str) -> list[Any]:
    try:
        client.get_registered_model(name)
    except MlflowException:
        client.create_registered_model(name)
        return []
    return list(_all_versions(client, name))


def _registered(found: Any, aliases: dict[str, tuple[str, ...]], scratch: Path) -> Version:
    uri = f"models:/{found.name}/{found.version}"
    location, place, missing = _place(uri, scratch)
    tracked = Tracked(
        found.name,
        str(found.version),
        model_id_in(location) or found.model_id,
        found.run_id or None,
        found.description or None,
        dict(found.tags),
        aliases.get(str(found.version), ()),
    )
    return Version(f"{found.name}/{found.version}", uri, place, tracked, missing)


def _logged(model: Any, scratch: Path) -> Version:
    uri = f"models:/{model.model_id}"
    tracked = Tracked(model_id=model.model_id, run_id=model.source_run_id, tags={})
    _, place, missing = _place(uri, scratch)
    if str(model.status) != "READY":
        missing = f"it is {str(model.status).lower()}, not ready"
    return Version(f"models/{model.model_id}/artifacts", uri, place, tracked, missing)


def _place(uri: str, scratch: Path) -> tuple[str, Place, str]:
    """Where a model is, as something to list files in; and why it cannot be found, if so."""
    location = ""
    try:
        location = located(uri)
        if is_store_url(location):
            return location, InStore(*Store.find(location)), ""
        if urlsplit(location).scheme in ("", "file"):
            return location, OnDisk(Path(local_file_uri_to_path(location))), ""
        return location, InRepository(get_artifact_repository(location), location, scratch), ""
    except (ShardflowError, MlflowException) as error:
        return location, OnDisk(scratch), error.message


def _aliases(client: Any, name: str) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for alias, version in client.get_registered_model(name).aliases.items():
        found[str(version)] = (*found.get(str(version), ()), alias)
    return found


def _all_versions(client: Any, name: str) -> Iterator[Any]:
    quote = '"' if "'" in name else "'"
    token: str | None = None
    while True:
        page = client.search_model_versions(f"name={quote}{name}{quote}", page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def _all_models(client: Any, experiment_id: str) -> Iterator[Any]:
    token: str | None = None
    while True:
        page = client.search_logged_models([experiment_id], page_token=token)
        yield from page
        token = page.token
        if not token:
            return
