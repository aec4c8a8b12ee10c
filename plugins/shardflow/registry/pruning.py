"""Which versions of registered models may go by a retention policy, and their removal.

Deciding looks at nothing but what it is given. What is removed is a version, its logged model, and the names of its
files; the bytes are freed by the store's own collection, as far as nothing else needs them. Others register, copy and
move versions between the two, so everything that a version stays for is looked at again when its turn comes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import Any, TypeAlias

from shardflow.errors import ShardflowError, without_passwords
from shardflow.registry.asking import NotARegistry, deployments_of
from shardflow.registry.bases import all_bases, name_of
from shardflow.registry.deployments import DEPLOYMENT_TAG, Deployment, Outcome, running
from shardflow.registry.lineage import Name
from shardflow.registry.present import Present
from shardflow.registry.references import Registered
from shardflow.registry.remains import Cleared, NotItsOwn, Remains, clear, note, remains_of, strike
from shardflow.registry.terms import Status

DAY = 86_400.0

Waiting: TypeAlias = Mapping[Name, Collection[Name]]
"""Versions that are still to go, and what each was made from as far as the plan knew."""


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
    last: int = 0
    deployed: Mapping[Name, list[Deployment]] = field(default_factory=dict)
    bases: Mapping[Name, Collection[Name]] = field(default_factory=dict)
    """What was known of deployments, and of what was made from what, when it was made."""


@dataclass(frozen=True, slots=True)
class Left:
    """Files of a version that was removed, which are still there, and why."""

    version: str
    location: str
    reason: str


@dataclass
class Removed:
    """What was done."""

    versions: list[str] = field(default_factory=list)
    finished: list[str] = field(default_factory=list)
    """Versions that an earlier run has removed, and whose files this one has."""
    stores: set[str] = field(default_factory=set)
    size: int = 0
    refused: list[tuple[str, str]] = field(default_factory=list)
    left: list[Left] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        return {
            "removed": self.versions,
            "finished": self.finished,
            "bytes": self.size,
            "stores": sorted(self.stores),
            "refused": [{"version": name, "reason": reason} for name, reason in self.refused],
            "left": [asdict(each) for each in self.left],
        }


def planned(
    versions: Iterable[Registered],
    retention: Retention,
    now: float,
    among: Callable[[str], bool] = lambda _: True,
    deployed: Iterable[Deployment] = (),
) -> Plan:
    """What may go of the models that `among` names; `versions` are all that there are, so that no base is missed."""
    every_version = {name_of(each): each for each in versions}
    bases, history = all_bases(every_version), list(deployed)
    ran = _ran(history, now, retention.deployed_days)
    reasons: dict[Name, str] = {}
    for model in {name[0] for name in every_version}:
        newest = sorted((name for name in every_version if name[0] == model), reverse=True)
        for rank, name in enumerate(newest):
            reason = _reason(every_version[name], rank, retention) if among(model) else "of another model"
            reason = reason or ran.get(name)
            if reason:
                reasons[name] = reason
    _keep_bases(bases, reasons)
    going = [every_version[name] for name in every_version if name not in reasons]
    kept = [Kept(every_version[name], reason) for name, reason in sorted(reasons.items()) if among(name[0])]
    known: dict[Name, list[Deployment]] = {}
    for each in history:
        known.setdefault((each.model, each.version), []).append(each)
    return Plan(tuple(_children_first(going, bases)), tuple(kept), retention.last, known, bases)


def remove(
    plan: Plan, present: Present, told: Callable[[Registered], None] = lambda _: None, begun: Iterable[Remains] = ()
) -> Removed:
    """Remove what a plan says, and what earlier runs have left to remove.

    A version that the registry will not let go stays, with all of its files.
    """
    from mlflow.exceptions import MlflowException  # noqa: PLC0415  # takes a second

    done = Removed()
    done.finished += [remains.name for remains in begun if _clear(remains, present, done)]
    waiting = {name_of(version): plan.bases.get(name_of(version), ()) for version in plan.going}
    for version in plan.going:
        told(version)
        try:
            reason = _reason_by_now(version, plan, present, waiting)
            if not reason:
                remains = _delete(version, present)
        except (MlflowException, ShardflowError) as error:
            reason = _sentence(error)
        waiting.pop(name_of(version), None)
        if reason:
            done.refused.append((version.name, reason))
            continue
        done.versions.append(version.name)
        _clear(remains, present, done)
    return done


def _reason_by_now(version: Registered, plan: Plan, present: Present, waiting: Waiting) -> str | None:
    """Why a version stays that could go when the plan was made."""
    found = present.now(version)
    if found is None:
        return "somebody else has removed it"
    if (found.status, found.stage) != (version.status, version.stage):
        return f"it moved to {found.status if found.status is not version.status else found.stage} meanwhile"
    # MLflow's own registry has no history of deployments, and keeps the tag as it was set.
    same_tag = found.tags.get(DEPLOYMENT_TAG) == version.tags.get(DEPLOYMENT_TAG)
    if not same_tag or deployed(present.client, *name_of(version)) != plan.deployed.get(name_of(version), []):
        return "it was deployed meanwhile"
    if present.is_among_last(version, plan.last):
        return f"by now it is one of the last {plan.last}"
    # Children go first. One that is still to go, and was known to be one, is one of a circle.
    children = (each for each in present.made_from(found) if name_of(each) != name_of(version))
    left = (each for each in children if name_of(version) not in waiting.get(name_of(each), ()))
    return next((f"{child.name} was made from it" for child in left), None)


def _delete(version: Registered, present: Present) -> Remains:
    """Remove a version from the registry, and note before what is to follow it."""
    from mlflow.exceptions import MlflowException  # noqa: PLC0415

    location = present.location(version)
    present.in_use(location)  # asks for what it has to know while it is no harm yet if nobody answers
    remains = remains_of(version, location)
    note(remains, present.client)
    try:
        present.client.delete_model_version(version.model, str(version.version))
    except MlflowException:
        if present.now(version):  # it may be gone although the answer was lost
            with suppress(MlflowException):
                strike(remains, present.client)
            raise
    present.forget(version)
    return remains


def _clear(remains: Remains, present: Present, done: Removed) -> bool:
    """Remove what a version has left, if it can be; what stays is told, and the next run tries again."""
    from mlflow.exceptions import MlflowException  # noqa: PLC0415

    cleared = Cleared()
    try:
        cleared = clear(remains, present)
    except (MlflowException, ShardflowError, OSError) as error:
        done.left.append(Left(remains.name, without_passwords(remains.location), _sentence(error)))
        if not isinstance(error, NotItsOwn):
            return False
    if cleared.store:
        done.stores.add(cleared.store)
        done.size += cleared.size
    with suppress(MlflowException):  # the next run finds that nothing is left
        strike(remains, present.client)
    return cleared.store is not None


def _sentence(error: Exception) -> str:
    """One line; MLflow's exceptions have a message without their code, and may have a whole URL in it."""
    told = str(error) if isinstance(error, ShardflowError) else getattr(error, "message", None) or str(error)
    return without_passwords(" ".join(told.split()))


def deployed(client: Any, model: str | None = None, version: int | None = None) -> list[Deployment]:
    """All deployments that the registry knows of, or those of a version; MLflow's own knows of none."""
    try:
        return deployments_of(client, model, version)
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


def _keep_bases(bases: Mapping[Name, Mapping[Name, str]], reasons: dict[Name, str]) -> None:
    waiting = list(reasons)
    while waiting:
        for base, reason in bases[waiting.pop()].items():
            if base not in reasons:
                reasons[base] = reason
                waiting.append(base)


def _children_first(going: list[Registered], bases: Mapping[Name, Iterable[Name]]) -> Iterator[Registered]:
    """Whatever was made from another one goes before it."""
    left = {name_of(each): each for each in going}
    children = Counter(base for name in left for base in bases[name])
    needed = {name: children[name] for name in left}
    free = sorted(name for name, count in needed.items() if not count)
    while left:
        name = free.pop(0) if free else next(iter(left))  # a circle is broken anywhere
        found = left.pop(name, None)
        if found is None:
            continue
        yield found
        for base in bases[name]:
            if base in left:
                needed[base] -= 1
                if not needed[base]:
                    free.append(base)
