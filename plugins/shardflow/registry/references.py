"""Model versions by the names that people type: llama/3, llama/1.4.2, llama@production, models:/llama/3."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from shardflow.errors import ShardflowError
from shardflow.registry.evidence import Subject
from shardflow.registry.evidence_tags import STATEMENT_TAG
from shardflow.registry.facts import Semantic
from shardflow.registry.terms import Status
from shardflow.registry.versions import VERSION_TAG, VersionInvalid, alias_of, parse

STATUS_TAG = "shardflow.status"
_STAGES = {"Staging": Status.STAGING, "Production": Status.PRODUCTION, "Archived": Status.ARCHIVED}


class VersionMissing(ShardflowError):
    """A model version that the registry does not have."""


@dataclass(frozen=True, slots=True)
class Registered:
    """One model version, as a client sees it."""

    model: str
    version: int
    location: str
    source: str
    run_id: str | None
    created: float
    tags: Mapping[str, str]
    stage: str = "None"
    updated: float = 0.0
    """When it was last changed otherwise than by a tag or an alias."""

    @property
    def name(self) -> str:
        return f"{self.model}/{self.version}"

    @property
    def semantic(self) -> Semantic | None:
        text = self.tags.get(VERSION_TAG)
        return parse(text) if text else None

    @property
    def status(self) -> Status:
        """By the registry's tag; for a registry without this package, by the stage."""
        tag = self.tags.get(STATUS_TAG)
        return Status(tag) if tag in set(Status) else _STAGES.get(self.stage, Status.DRAFT)

    @property
    def title(self) -> str:
        """llama/3 (1.4.2)"""
        return f"{self.name} ({self.semantic.text})" if self.semantic else self.name

    @property
    def model_id(self) -> str | None:
        return self.subject().model_id

    def subject(self) -> Subject:
        """What a client can say of it; statements are kept by the registry, not by its tags."""
        return Subject(self.model, self.location, self.source, self.run_id)


def find(reference: str, client: Any = None) -> Registered:
    """The version that a reference names; VersionMissing if there is none."""
    from mlflow import MlflowClient  # noqa: PLC0415  # takes a second, and is not for whoever only parses
    from mlflow.exceptions import MlflowException  # noqa: PLC0415

    client = client or MlflowClient()
    name, mark, alias, number = split(reference)
    try:
        by_alias = mark == "@"
        found = client.get_model_version_by_alias(name, alias) if by_alias else client.get_model_version(name, number)
        return registered(found, client)
    except MlflowException as error:
        if error.error_code not in {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}:
            raise
        raise VersionMissing(
            f"there is no {reference}: {error.message}", remedy="check its name and MLFLOW_TRACKING_URI"
        ) from None


def split(reference: str) -> tuple[str, str, str, str]:
    """Name, `@` or `/`, the alias, and the number of a reference."""
    text = reference.removeprefix("models:/").rstrip("/")
    if "@" in text:
        name, _, alias = text.rpartition("@")
        return _named(name, reference), "@", _alias(alias), ""
    name, _, version = text.rpartition("/")
    if version.isdecimal():
        return _named(name, reference), "/", "", version
    return _named(name, reference), "@", _alias(version), ""


def registered(found: Any, client: Any) -> Registered:
    """What MLflow's client gave, with where its files are."""
    location = client.get_model_version_download_uri(found.name, found.version)
    return described(found, location)


def described(found: Any, location: str | None = None) -> Registered:
    return Registered(
        found.name,
        int(found.version),
        location or found.source,
        found.source,
        found.run_id or None,
        found.creation_timestamp / 1000,
        dict(found.tags),
        found.current_stage or "None",
        (found.last_updated_timestamp or found.creation_timestamp) / 1000,
    )


def versions_of(model: str, client: Any) -> list[Registered]:
    """All versions of a model, oldest first; where their files are is their source."""
    found = (described(each) for each in every(client, search_of(model)) if each.name == model)
    return sorted(found, key=lambda each: each.version)


def search_of(model: str) -> str | None:
    """A search for the versions of a model. MLflow has no escapes: with both kinds of quotes, for all there are."""
    quote = next((each for each in "'\"" if each not in model), None)
    return f"name={quote}{model}{quote}" if quote else None


def every(client: Any, wanted: str | None = None) -> Iterator[Any]:
    """All versions that a search finds, page by page."""
    for page in pages(client, wanted):
        yield from page


def pages(
    client: Any,
    wanted: str | None = None,
    order: str = "creation_timestamp ASC",
    size: int = 1000,
    token: str | None = None,
) -> Iterator[list[Any]]:
    """What a search finds, by default in an order in which no version leaves its place when it is changed.

    A token lets it begin later.
    """
    while True:
        page = client.search_model_versions(wanted, max_results=size, order_by=[order], page_token=token)
        yield page
        token = page.token
        if not token:
            return


def statements_among(tags: Mapping[str, str]) -> tuple[str, ...]:
    """The statements that were handed in as tags, where a registry keeps them as they are."""
    return tuple(value for key, value in sorted(tags.items()) if key.startswith(STATEMENT_TAG))


def _named(name: str, reference: str) -> str:
    if not name:
        raise VersionMissing(f"{reference!r} names no version", remedy="write NAME/NUMBER, NAME/1.4.2 or NAME@ALIAS")
    return name


def _alias(text: str) -> str:
    """An alias as it is; a semantic version as the alias that stands for it."""
    if "." not in text:
        return text
    try:
        return alias_of(parse(text))
    except VersionInvalid:
        raise VersionMissing(f"{text!r} is neither an alias nor a version", remedy="write NAME@1.4.2") from None
