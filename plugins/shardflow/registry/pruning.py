"""Which versions of registered models may go by a retention policy, and their removal.

Deciding looks at nothing but what it is given. What is removed is a version, its logged model, and the names of its
files; the bytes are freed by the store's own collection, as far as nothing else needs them. Others register, copy and
move versions between the two, so everything that a version stays for is looked at again when its turn comes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from shardflow.registry.asking import NotARegistry, deployments_of
from shardflow.registry.deployments import DEPLOYMENT_TAG, Deployment, Outcome, running
from shardflow.registry.lineage import Name
from shardflow.registry.present import Present, bases_of, name_of
from shardflow.registry.references import Registered
from shardflow.registry.terms import Status
from shardflow.store.errors import PathMissing, StoreMissing
from shardflow.store.store import Store
from shardflow.transport.url import SCHEME

DAY = 86_400.0


@dataclass(frozen=True, slots=True)
class Retention:
    """What stays."""

    last: int = 10
    """So many of the newest versions of each model."""
    statuses: frozenset[Status] = frozenset({Status.TESTING, Status.STAGING, Status.PRODUCTION})
    deployed_days: float = 90.0
    """What ran anywhere in the last so many days."""


@dataclass(frozen=True, slots=True)
class Kept:
    """A version that stays, and why."""

    version: Registered
    reason: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What a retention policy comes to; those that go are in the order in which they can be removed."""

    going: tuple[Registered, ...]
    kept: tuple[Kept, ...]


@dataclass
class Removed:
    """What was done."""

    versions: list[str] = field(default_factory=list)
    stores: set[str] = field(default_factory=set)
    size: int = 0
    refused: list[tuple[str, str]] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        return {
            "removed": self.versions,
            "bytes": self.size,
            "stores": sorted(self.stores),
            "refused": [{"version": name, "reason": reason} for name, reason in self.refused],
        }


def planned(
    versions: Iterable[Registered],
    retention: Retention,
    now: float,
    among: Callable[[str], bool] = lambda _: True,
    deployed: Iterable[Deployment] = (),
) -> Plan:
    """What may go of the models that `among` names; `versions` are all that there are, so that no base is missed."""
    every_version = {(each.model, each.version): each for each in versions}
    ran = _ran(list(deployed), now, retention.deployed_days)
    reasons: dict[Name, str] = {}
    for model in {name[0] for name in every_version}:
        newest = sorted((name for name in every_version if name[0] == model), reverse=True)
        for rank, name in enumerate(newest):
            reason = _reason(every_version[name], rank, retention) if among(model) else "of another model"
            reason = reason or ran.get(name)
            if reason:
                reasons[name] = reason
    _keep_bases(every_version, reasons)
    going = [every_version[name] for name in every_version if name not in reasons]
    kept = [Kept(every_version[name], reason) for name, reason in sorted(reasons.items()) if among(name[0])]
    return Plan(tuple(_children_first(going)), tuple(kept))


def remove(plan: Plan, client: Any, told: Callable[[Registered], None] = lambda _: None) -> Removed:
    """Remove what a plan says; a version that the registry will not let go stays, with all of its files."""
    from mlflow.exceptions import MlflowException  # noqa: PLC0415  # takes a second

    done, present = Removed(), Present(client)
    waiting = {name_of(version) for version in plan.going}
    for version in plan.going:
        told(version)
        try:
            reason = _reason_by_now(version, present, waiting)
            if not reason:
                location = present.location(version)
                present.in_use(location)  # asks for what it has to know while it is no harm yet if nobody answers
                client.delete_model_version(version.model, str(version.version))
        except MlflowException as error:
            reason = " ".join(error.message.split())
        waiting.discard(name_of(version))
        if reason:
            done.refused.append((version.name, reason))
            continue
        present.forget(version)
        done.versions.append(version.name)
        _remove_files(replace(version, location=location), present, done)
    return done


def _reason_by_now(version: Registered, present: Present, waiting: Collection[Name]) -> str | None:
    """Why a version stays that could go when the plan was made; `waiting` are those that are still to go."""
    found = present.now(version)
    if found is None:
        return "somebody else has removed it"
    if (found.status, found.stage) != (version.status, version.stage):
        return f"it moved to {found.status if found.status is not version.status else found.stage} meanwhile"
    if found.tags.get(DEPLOYMENT_TAG) != version.tags.get(DEPLOYMENT_TAG):
        return "it was deployed meanwhile"
    children = (each for each in present.made_from(name_of(version)) if name_of(each) not in waiting)
    return next((f"{child.name} was made from it" for child in children), None)


def all_versions(client: Any) -> list[Registered]:
    return list(Present(client).versions.values())


def deployed(client: Any) -> list[Deployment]:
    """All deployments that the registry knows of; MLflow's own knows of none."""
    try:
        return deployments_of(client)
    except NotARegistry:
        return []


def _reason(version: Registered, rank: int, retention: Retention) -> str | None:
    if version.status in retention.statuses:
        return f"in {version.status}"
    return f"one of the last {retention.last}" if rank < retention.last else None


def _ran(history: list[Deployment], now: float, days: float) -> dict[Name, str]:
    """Every version that ran somewhere in the last days: what ran when they began, and what came since."""
    since = now - days * DAY
    came = [each for each in history if each.at >= since and each.outcome is not Outcome.FAILED]
    found = {(each.model, each.version): f"ran at {each.target} not long ago" for each in came}
    found |= {(each.model, each.version): f"ran at {each.target} not long ago" for each in running(history, since)}
    return found | {(each.model, each.version): f"runs at {each.target}" for each in running(history, now)}


def _keep_bases(versions: dict[Name, Registered], reasons: dict[Name, str]) -> None:
    waiting = list(reasons)
    while waiting:
        name = waiting.pop()
        for base in bases_of(versions[name]):
            if base in versions and base not in reasons:
                reasons[base] = f"{name[0]}/{name[1]} was made from it"
                waiting.append(base)


def _children_first(going: list[Registered]) -> Iterator[Registered]:
    """Whatever was made from another one goes before it."""
    left = {(each.model, each.version): each for each in going}
    children = Counter(base for each in going for base in bases_of(each))
    needed = {name: children[name] for name in left}
    free = sorted(name for name, count in needed.items() if not count)
    while left:
        name = free.pop(0) if free else next(iter(left))  # a circle is broken anywhere
        found = left.pop(name, None)
        if found is None:
            continue
        yield found
        for base in bases_of(found):
            if base in left:
                needed[base] -= 1
                if not needed[base]:
                    free.append(base)


def _remove_files(version: Registered, present: Present, done: Removed) -> None:
    """The logged model is deleted as MLflow deletes them; its files are only names in a store, which go at once."""
    if present.in_use(version.location):
        return
    if version.model_id:
        _delete_model(version.model_id, present.client)
    # Nobody can register the logged model from here on, but somebody may have done so just before.
    if not version.location.startswith(f"{SCHEME}:") or present.in_use(version.location):
        return
    try:
        store, path = Store.find(version.location)
        done.size += store.stat(path).size
        store.rm(path, recursive=True)
        done.stores.add(str(store.url))
    except (PathMissing, StoreMissing):
        return


def _delete_model(model_id: str, client: Any) -> None:
    from mlflow.exceptions import MlflowException  # noqa: PLC0415

    try:
        client.delete_logged_model(model_id)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
