"""Divides a model in a store into other files: no tensor is stored again, and it can be read all the while."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any

from shardflow.flavor.errors import ModelMissing
from shardflow.flavor.folders import StoreFolder
from shardflow.flavor.moving.claims import Claim, claimed
from shardflow.flavor.moving.division import ENDING, Division, read_division
from shardflow.flavor.moving.switching import Switch, describe, leave_behind, put_in_place, written_files
from shardflow.flavor.plans import AUTO, MAX_SHARD_BYTES, METHODS, Plan, PlanUnknown, plan
from shardflow.store.progress import Progress
from shardflow.store.store import Store
from shardflow.transport import Cancellation

SINGLE = "single"
SHARDINGS = (AUTO, *METHODS, SINGLE)
CLAIM_FILE = "resharding.json"
_HOMES = ("weights", "model")  # where in a model its weights are: of this flavor, and of mlflow.transformers
_MLFLOW = ("models:/", "runs:/")


@dataclass(frozen=True, slots=True)
class Resharding:
    """What a model's files were, and what they are now or would be."""

    url: str  # of the weights
    before: Mapping[str, int]  # bytes of tensors by file
    plan: Plan
    changed: bool
    dry_run: bool = False
    progress: Progress = field(default_factory=Progress)
    removed: tuple[str, ...] = ()
    noted: bool = True  # on the logged model, where there is one

    def as_dict(self) -> dict[str, Any]:
        return {
            "url": self.url,
            "sharding": self.plan.method,
            "changed": self.changed,
            "dry_run": self.dry_run,
            "bytes": self.plan.size,
            "before": dict(self.before),
            "files": {shard.file: shard.size for shard in self.plan.shards},
            "bytes_sent": self.progress.totals.bytes_sent,
            "bytes_reused": self.progress.bytes_reused,
            "removed": list(self.removed),
            "noted": self.noted,
        }


@dataclass(frozen=True, slots=True)
class _Place:
    """A model in a store: where it is, and where in it the weights are."""

    store: Store
    model: str
    weights: str

    @property
    def folder(self) -> StoreFolder:
        return StoreFolder(self.store, self.weights)

    @property
    def claim(self) -> str:
        return f"{self.weights}/{CLAIM_FILE}" if self.weights else CLAIM_FILE


def reshard(
    model_uri: str,
    sharding: str = AUTO,
    max_shard_bytes: int = MAX_SHARD_BYTES,
    *,
    dry_run: bool = False,
    take_over: bool = False,
    options: Mapping[str, str] | None = None,
    progress: Progress | None = None,
    cancel: Cancellation | None = None,
) -> Resharding:
    """Divide a model that is in a store into other files, as `log_model` would have with this sharding.

    `model_uri` is any URI that MLflow has for a model, or the URL of a model or of a directory of safetensors. `single`
    makes one file, however large. The chunks of the tensors stay where they are. Readers are led from the old files to
    the new ones by one write, and the old ones go last; run again after a crash, it finishes. `take_over` goes on
    although another run says that it is at it.
    """
    if sharding not in SHARDINGS:
        raise PlanUnknown(f"there is no sharding called {sharding!r}", remedy=f"use one of {', '.join(SHARDINGS)}")
    place = _place_of(model_uri, options)
    progress = progress if progress is not None else Progress()
    with ExitStack() as stack:
        if dry_run:
            present = read_division(place.folder, stack)
            switch = Switch(place.store, place.weights, present, _planned(present, sharding, max_shard_bytes))
            return _outcome(switch, progress, dry_run=True)
        place.store.config.check("delete", str(place.store.url))
        claim = stack.enter_context(claimed(place.store, place.claim, "reshard", take_over=take_over))
        halfway = set(claim.note.after) - set(claim.note.before)
        present = read_division(place.folder, stack, halfway)
        switch = Switch(place.store, place.weights, present, _planned(present, sharding, max_shard_bytes))
        removed = _switched(switch, place, claim, progress, cancel)
    outcome = _outcome(switch, progress, removed=removed)
    return replace(outcome, noted=_noted(model_uri, switch.target)) if outcome.changed else outcome


def _switched(
    switch: Switch, place: _Place, claim: Claim, progress: Progress, cancel: Cancellation | None
) -> tuple[str, ...]:
    """Go over to the target, or finish what an earlier run began; returns which files were removed."""
    plans = list(switch.steps()) if switch.needed else []
    if plans:
        claim.goes(switch.present.files, [shard.file for made in plans for shard in made.shards])
    elif not claim.note.after:
        return ()
    for made in plans:
        progress.restart()
        put_in_place(switch, made, progress, cancel)
    written = written_files(place.store, place.weights, switch.target, progress)
    describe(place.store, place.model, place.weights, switch.target, written)
    obsolete = [*claim.note.before, *claim.note.after]
    return tuple(leave_behind(place.store, place.weights, obsolete, switch.target))


def _planned(present: Division, sharding: str, max_shard_bytes: int) -> Plan:
    """The plan for a model's tensors, with the ties that are known of it."""
    method, limit = (AUTO, max(1, present.size)) if sharding == SINGLE else (sharding, max_shard_bytes)
    return replace(plan(present.tensors, method, limit), aliases=present.aliases)


def _place_of(model_uri: str, options: Mapping[str, str] | None) -> _Place:
    location = model_uri
    if model_uri.startswith(_MLFLOW):
        from shardflow.flavor.places import is_store_url, located  # noqa: PLC0415  # a store's URL needs no MLflow

        location = located(model_uri)
        if not is_store_url(location):
            raise ModelMissing(
                f"{model_uri} is at {location}, which is not in a store", remedy="'shardflow migrate' takes it into one"
            )
    store, path = Store.find(location, options)
    names = StoreFolder(store, path).names()
    if not any(name.endswith(ENDING) for name in names):
        for home in _HOMES:
            if home in names:
                return _Place(store, path, f"{path}/{home}" if path else home)
    return _Place(store, path, path)


def _outcome(switch: Switch, progress: Progress, *, dry_run: bool = False, removed: tuple[str, ...] = ()) -> Resharding:
    present = switch.present
    sizes = {tensor.name: tensor.size for tensor in present.tensors}
    before = {file: sum(sizes[name] for name in names) for file, names in present.files.items()}
    return Resharding(
        str(switch.store.url.joined(switch.path)),
        before,
        switch.target,
        switch.needed,
        dry_run,
        progress,
        removed,
    )


def _noted(model_uri: str, made: Plan) -> bool:
    """Whether the logged model now tells the new plan; its parameters tell the one it was logged with."""
    if not model_uri.startswith(_MLFLOW):
        return True
    import mlflow  # noqa: PLC0415
    from mlflow.exceptions import MlflowException  # noqa: PLC0415

    from shardflow.flavor.lineage import model_id_in  # noqa: PLC0415
    from shardflow.flavor.places import located  # noqa: PLC0415

    model_id = model_id_in(located(model_uri))
    if model_id is None:
        return True
    tags = {"shardflow.sharding": made.method, "shardflow.files": str(len(made.shards))}
    try:
        mlflow.MlflowClient().set_logged_model_tags(model_id, tags)
    except MlflowException:
        return False  # it was deleted, say; the files are where they should be
    return True
