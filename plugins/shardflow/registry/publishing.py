"""Publishes a model in one act: logs it, registers it, numbers it, and records what it was made from.

import shardflow.registry
shardflow.registry.publish("out/checkpoint-500", name="llama", version="1.4.0", base="llama@1.3.2")
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shardflow.errors import ShardflowError
from shardflow.registry.facts import Semantic
from shardflow.registry.lineage import PARENTS_TAG, lineage_of
from shardflow.registry.lineage_page import log_page
from shardflow.registry.proposing import Proposal, interface_of, proposed
from shardflow.registry.references import Registered, find, registered, versions_of
from shardflow.registry.versions import VERSION_TAG, alias_of, parse
from shardflow.store.noted import noting_sha256

_FORBIDDEN = str.maketrans(dict.fromkeys("/:.%\"'", "-"))  # what MLflow does not take in the name of a logged model


class VersionTaken(ShardflowError):
    """A semantic version that a model has already."""


class SavedAlready(ShardflowError):
    """A model whose files are made, and for which somebody chose how to make them."""


@dataclass(frozen=True, slots=True)
class Published:
    """A version as it was registered, and how it came to its semantic version."""

    version: Registered
    semantic: Semantic
    reason: str
    sent: int | None = None
    """Bytes that went to the store; only a store knows."""
    reused: int | None = None

    def as_dict(self) -> dict[str, Any]:
        return {
            "name": self.version.name,
            "semantic": self.semantic.text,
            "alias": alias_of(self.semantic),
            "reason": self.reason,
            "location": self.version.location,
            "model_id": self.version.model_id,
            "run_id": self.version.run_id,
            "bytes_sent": self.sent,
            "bytes_reused": self.reused,
        }


def publish(
    model: Any,
    *,
    name: str,
    version: str | None = None,
    base: str | None = None,
    relation: str = "base",
    tags: Mapping[str, str] | None = None,
    description: str | None = None,
    client: Any = None,
    **logging: Any,
) -> Published:
    """Log a model, and register it as the next version of `name`.

    `model` is what `shardflow.flavor.log_model` takes: a module, a state dict, a checkpoint or a Hugging Face
    directory; or a directory that an MLflow flavor saved. `version` is its semantic version, proposed from what changed
    if left out. `base` is the version that it was made from: `llama@1.3.2` or `llama/3`; `relation` says how: base,
    adapter or merged. Everything else goes to `log_model`. Without an active run, a run is made for it.
    """
    from mlflow import MlflowClient  # noqa: PLC0415  # takes a second

    client = client or MlflowClient()
    number = parse(version) if version is not None else None
    if number is not None:
        _require_free(name, number, client)
    parent = find(base, client) if base is not None else None
    with _in_run(name) as run_id, noting_sha256():
        model_id = _logged(model, name, parent, client, run_id, logging)
    logged = client.get_logged_model(model_id)
    given = {**(tags or {}), **({PARENTS_TAG: _parents_text(parent, relation)} if parent else {})}
    made, proposal = _registered(name, logged, number, given, description, client)
    found = find(f"{name}/{made.version}", client)
    log_page(lineage_of(found, client), found.location)
    if parent is not None:
        _page_anew(parent, client)
    return Published(
        found,
        proposal.version,
        proposal.reason,
        _figure(logged, "shardflow.bytes_sent"),
        _figure(logged, "shardflow.bytes_reused"),
    )


def _page_anew(parent: Registered, client: Any) -> None:
    """Let the page of what it was made from name it; not everybody may write there, and the page says of when it is."""
    from mlflow.exceptions import MlflowException  # noqa: PLC0415

    with suppress(ShardflowError, MlflowException, OSError):
        log_page(lineage_of(parent, client), parent.location)


def _require_free(name: str, number: Semantic, client: Any) -> None:
    """Refuse a version that is taken before anything is uploaded."""
    taken = next((found for found in versions_of(name, client) if found.semantic == number), None)
    if taken is not None:
        raise VersionTaken(f"{taken.name} is {name} {number.text} already", remedy="choose another --version")


@contextmanager
def _in_run(name: str) -> Iterator[str]:
    """The active run, or one for this act."""
    import mlflow  # noqa: PLC0415

    active = mlflow.active_run()
    if active is not None:
        yield str(active.info.run_id)
        return
    with mlflow.start_run(run_name=f"publish {name}") as run:
        yield str(run.info.run_id)


def _logged(
    model: Any, name: str, parent: Registered | None, client: Any, run_id: str, logging: Mapping[str, Any]
) -> str:
    """The id of the logged model."""
    title = name.translate(_FORBIDDEN)
    saved = Path(model) if isinstance(model, str | Path) else None
    if saved is not None and (saved / "MLmodel").is_file():
        if logging:
            raise SavedAlready(
                f"{saved} was saved by a flavor, so {', '.join(sorted(logging))} cannot be chosen any more",
                remedy="leave that out, or publish the checkpoint",
            )
        return _as_saved(saved, title, parent, client, run_id)
    from shardflow.flavor import log_model  # noqa: PLC0415  # brings torch

    uri = f"models:/{parent.name}" if parent else None
    return str(log_model(model, name=title, base_model=uri, **logging).model_id)


def _as_saved(directory: Path, title: str, parent: Registered | None, client: Any, run_id: str) -> str:
    """Log a directory that any flavor saved, as it is."""
    from mlflow.entities import LoggedModelOutput  # noqa: PLC0415

    experiment = client.get_run(run_id).info.experiment_id
    tags = {"shardflow.parent": parent.model_id} if parent and parent.model_id else {}
    made = client.create_logged_model(experiment, name=title, source_run_id=run_id, tags=tags)
    client.log_model_artifacts(made.model_id, str(directory))
    client.finalize_logged_model(made.model_id, "READY")
    client.log_outputs(run_id, models=[LoggedModelOutput(made.model_id, 0)])
    return str(made.model_id)


def _registered(
    name: str, logged: Any, number: Semantic | None, tags: Mapping[str, str], description: str | None, client: Any
) -> tuple[Registered, Proposal]:
    """The version; a number that was proposed is proposed anew if another publisher was quicker."""
    from mlflow.exceptions import MlflowException  # noqa: PLC0415

    _require_model(name, client)
    refused = number
    while True:
        proposal = _numbered(name, number, logged.artifact_location, client)
        try:
            return _created(name, logged, proposal.version, tags, description, client), proposal
        except MlflowException as error:
            if error.error_code != "RESOURCE_CONFLICT" or proposal.version == refused:
                raise
            refused = proposal.version


def _require_model(name: str, client: Any) -> None:
    from mlflow.exceptions import MlflowException  # noqa: PLC0415

    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _numbered(name: str, number: Semantic | None, location: str, client: Any) -> Proposal:
    if number is not None:
        return Proposal(number, None, None, "as asked for")
    return proposed(name, interface_of(location), client)


def _created(
    name: str, logged: Any, number: Semantic, tags: Mapping[str, str], description: str | None, client: Any
) -> Registered:
    made = client.create_model_version(
        name,
        f"models:/{logged.model_id}",
        run_id=logged.source_run_id,
        tags={**tags, VERSION_TAG: number.text},
        description=description,
        model_id=logged.model_id,
    )
    if alias_of(number) not in made.aliases:  # a registry with this package has set it
        client.set_registered_model_alias(name, alias_of(number), made.version)
    return registered(made, client)


def _parents_text(parent: Registered, relation: str) -> str:
    from shardflow.registry.claims import Parent, parents_text  # noqa: PLC0415  # brings the registry's tables

    return parents_text([Parent(parent.model, parent.version, relation)])  # type: ignore[arg-type]


def _figure(logged: Any, tag: str) -> int | None:
    value = logged.tags.get(tag)
    return int(value) if value is not None and value.isdecimal() else None
