"""What a version leaves when it is removed: its logged model, and the names of its files in a store.

They can go only after the version, so they are noted before it goes, as a tag of the registered model. What a run could
not remove, because the store failed or the run was killed, the next one finds there.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from shardflow.errors import CorruptData, ShardflowError
from shardflow.registry.evidence import MODEL_ID
from shardflow.registry.present import Present
from shardflow.registry.references import Registered
from shardflow.store.errors import PathMissing, StoreMissing
from shardflow.store.paths import key_of, prefix_of
from shardflow.store.store import Store
from shardflow.transport import ObjectInfo, ObjectMissing
from shardflow.transport.url import SCHEME

NOTE = "pruning."
"""How the tag of a registered model begins that ends with the version's number; the registry takes no `shardflow.`."""
_PAGE = 1000


class NotItsOwn(ShardflowError):
    """A directory in which there is more than the files of the version that was registered from it."""


@dataclass(frozen=True, slots=True)
class Remains:
    """What is to be removed after a version."""

    model: str
    version: int
    location: str
    model_id: str | None
    newest: float
    """When the last of its files was stored, by the store's clock. What comes there later is somebody else's."""

    @property
    def name(self) -> str:
        return f"{self.model}/{self.version}"


@dataclass(frozen=True, slots=True)
class Cleared:
    """What was removed from a store."""

    store: str | None = None
    size: int = 0


def remains_of(version: Registered, location: str) -> Remains:
    newest = 0.0
    if _in_store(location):
        with suppress(StoreMissing):
            newest = max((info.modified for info in _objects(*Store.find(location))), default=0.0)
    return Remains(version.model, version.version, location, version.model_id, newest)


def note(remains: Remains, client: Any) -> None:
    """Say in the registry that this goes, if any of it is more than the version itself."""
    if remains.model_id or _in_store(remains.location):
        told = {"location": remains.location, "model_id": remains.model_id, "newest": remains.newest}
        client.set_registered_model_tag(remains.model, _tag(remains), json.dumps(told))


def strike(remains: Remains, client: Any) -> None:
    """Take the note back."""
    if remains.model_id or _in_store(remains.location):
        client.delete_registered_model_tag(remains.model, _tag(remains))


def noted(client: Any) -> list[Remains]:
    """All that is noted, of versions that are gone and of those that are about to go."""
    found, token = list[Remains](), None
    while True:
        page = client.search_registered_models(max_results=_PAGE, page_token=token)
        found += [each for model in page for each in _read(model)]
        token = page.token
        if not token:
            return found


def clear(remains: Remains, present: Present) -> Cleared:
    """Remove it, unless another version has the same files.

    The logged model is deleted as MLflow deletes them; its files are only names in a store, which go at once.
    """
    if present.in_use(remains.location):
        return Cleared()
    if remains.model_id:
        _delete_model(remains.model_id, present.client)
    if not _in_store(remains.location):
        return Cleared()
    try:
        store, path = Store.find(remains.location)
        size = _size(store, path)
    except (PathMissing, StoreMissing):
        return Cleared()
    _require_own(remains, store, path)
    # Nobody could register the logged model since it was deleted, but somebody may have done so just before.
    if present.in_use(remains.location):
        return Cleared()
    with suppress(PathMissing):
        store.rm(path, recursive=True)
    return Cleared(str(store.url), size)


def _size(store: Store, path: str) -> int:
    try:
        return store.stat(path).size
    except CorruptData:  # what is damaged goes as well, and nobody can tell how much it was
        return 0


def _require_own(remains: Remains, store: Store, path: str) -> None:
    below = len(prefix_of(path))
    objects = _objects(store, path)
    if any(MODEL_ID.search(info.key[below:]) for info in objects):
        raise NotItsOwn(f"{remains.location} has logged models in it", remedy="remove those that nobody needs")
    if any(info.modified > remains.newest for info in objects):
        raise NotItsOwn(
            f"somebody has stored files in {remains.location} since",
            remedy="remove it with 'shardflow rm -r' if nobody needs them",
        )


def _objects(store: Store, path: str) -> list[ObjectInfo]:
    """What stands for the files at or below a path."""
    found = list(store.transport.list(prefix_of(path)))
    if path:
        with suppress(ObjectMissing):
            found.append(store.transport.head(key_of(path)))
    return found


def _delete_model(model_id: str, client: Any) -> None:
    from mlflow.exceptions import MlflowException  # noqa: PLC0415  # takes a second

    try:
        client.delete_logged_model(model_id)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise


def _read(model: Any) -> list[Remains]:
    """The notes on a registered model; who wrote something else below such a name did not mean these."""
    found = []
    for key, value in model.tags.items():
        number = key.removeprefix(NOTE)
        if key.startswith(NOTE) and number.isdecimal():
            with suppress(ValueError, TypeError, KeyError):
                told = json.loads(value)
                found.append(
                    Remains(model.name, int(number), str(told["location"]), told["model_id"], float(told["newest"]))
                )
    return found


def _tag(remains: Remains) -> str:
    return f"{NOTE}{remains.version}"


def _in_store(location: str) -> bool:
    return location.startswith(f"{SCHEME}:")
