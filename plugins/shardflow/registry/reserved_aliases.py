"""Aliases that the registry writes itself: names of statuses, and semantic versions."""

from __future__ import annotations

from shardflow.registry.lifecycle import ALIASED
from shardflow.registry.refusals import Refused
from shardflow.registry.spelling import is_spelt, plain
from shardflow.registry.terms import Status
from shardflow.registry.versions import VERSION_TAG, from_alias

ALIAS = "alias"


def status_of_alias(alias: str) -> Status | None:
    """The status that an alias stands for, in any spelling."""
    return next((status for status in Status if is_spelt(alias, status.value)), None)


def is_reserved_alias(alias: str) -> bool:
    """Whether an alias is one that the registry writes, or that a database may take for one."""
    return status_of_alias(alias) is not None or from_alias(plain(alias)) is not None


def not_set(model: str, version: int, alias: str) -> Refused:
    """Why a reserved alias is not set that is none of a status, as it is written."""
    status = status_of_alias(alias)
    if status is None:
        remedy, found = f"set the tag {VERSION_TAG} instead", f"{alias} stands for a semantic version"
    elif status in ALIASED:
        remedy, found = f"write {status}", "aliases of statuses are in small letters"
    else:
        remedy, found = "move it to its status instead", f"{alias} is the name of a status"
    return Refused(remedy, found, action=ALIAS, model=model, version=version, after=alias)


def stays(model: str, alias: str) -> Refused:
    """Why a reserved alias is not deleted."""
    if status_of_alias(alias):
        remedy, found = "move the version to another status instead", f"{alias} follows the status"
    else:
        remedy, found = f"change the tag {VERSION_TAG} instead", f"{alias} follows the semantic version"
    return Refused(remedy, found, action=ALIAS, model=model, before=alias)
