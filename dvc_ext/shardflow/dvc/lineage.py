"""Which data and code made a model, and which models came from some data: MLflow's runs and dvc.lock's history joined.

MLflow knows the runs: their datasets, their tags, and the models that they logged. dvc.lock knows the stages: a model
that was trained with `data/prepared` came from `data/raw.csv`, because a stage made the one from the other.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from shardflow.dvc.locks import Step, downstream, remembered, upstream
from shardflow.dvc.projects import Project, project_around
from shardflow.dvc.tags import TAGS
from shardflow.dvc.tracked import DataUntracked, tracked
from shardflow.errors import ShardflowError

PARENT_TAG, CHECKPOINT_TAG = "shardflow.parent", "shardflow.checkpoint"
_MODEL = re.compile(r"m-[0-9a-f]{32}")
_MD5 = re.compile(r"[0-9a-f]{32}(\.dir)?")
_PAGE = 1000


class ModelUnknown(ShardflowError):
    """A reference that names no model of MLflow."""


@dataclass(frozen=True, slots=True)
class Data:
    """A version of some data, and what part it played."""

    path: str
    md5: str
    role: str
    """The context it was logged with; `stage` if only the tags of the run have it."""
    uri: str | None = None


@dataclass(frozen=True, slots=True)
class Code:
    """The commit that a run was started from, and where in DVC."""

    repo: str | None
    commit: str
    stage: str | None = None
    experiment: str | None = None

    @property
    def text(self) -> str:
        parts = [f"{self.repo or 'the repository'} at {self.commit[:12]}"]
        parts += [f"stage {self.stage}"] if self.stage else []
        parts += [f"experiment {self.experiment}"] if self.experiment else []
        return ", ".join(parts)


@dataclass(frozen=True, slots=True)
class Found:
    """A logged model, its registered versions, and where it comes from."""

    model: str
    versions: tuple[str, ...] = ()
    run_id: str | None = None
    run_name: str | None = None
    code: Code | None = None
    data: tuple[Data, ...] = ()
    steps: tuple[Step, ...] = ()
    """The stages that made the data, the nearest first."""
    parents: tuple[str, ...] = ()
    checkpoint: str | None = None
    how: str = ""

    @property
    def title(self) -> str:
        return f"{', '.join(self.versions)} (models:/{self.model})" if self.versions else f"models:/{self.model}"

    def as_dict(self) -> dict[str, Any]:
        found = {**asdict(replace(self, steps=())), "steps": [step.as_dict() for step in self.steps]}
        return {name: value for name, value in found.items() if value not in (None, "")}


@dataclass(frozen=True, slots=True)
class Came:
    """What came from some data."""

    data: tuple[Data, ...]
    """The data that was asked for, and what stages made from it."""
    models: tuple[Found, ...] = field(default=())

    def as_dict(self) -> dict[str, Any]:
        return {"data": [asdict(data) for data in self.data], "models": [model.as_dict() for model in self.models]}


def made_from(reference: str, client: Any) -> list[Found]:
    """A model with its data and code, and after it every model that it was made from."""
    steps = _remembered(project_around())
    found: list[Found] = []
    waiting = _models_named(reference, client)
    while waiting:
        model = waiting.pop(0)
        if model not in [each.model for each in found]:
            told = _told(model, client, steps)
            found.append(told)
            waiting += told.parents
    return found


def came_from(data: str, client: Any) -> Came:
    """Every model that was made from data, over all stages between, and every model made from those."""
    asked = _data_named(data)
    steps = downstream(_remembered(project_around(), _project_of(data)), [each.md5 for each in asked])
    made = {md5: path for step in steps for path, md5 in step.outs.items()}
    everything = asked + [Data(path, md5, "made from it") for md5, path in made.items()]
    found = {model: how for each in everything for model, how in _models_of(each, client)}
    _add_descendants(found, client)
    models = [replace(_told(model, client, []), how=how) for model, how in found.items()]
    return Came(tuple(everything), tuple(models))


def _remembered(*projects: Project | None) -> list[Step]:
    known = dict.fromkeys(project for project in projects if project is not None and project.commit())
    return [step for project in known for step in remembered(project)]


def _told(model: str, client: Any, steps: list[Step]) -> Found:
    logged = client.get_logged_model(model)
    versions = tuple(_versions_of(model, logged.source_run_id, client))
    found = Found(model, versions, parents=_parents_of(logged))
    if not logged.source_run_id:
        return found
    run = client.get_run(logged.source_run_id)
    data = tuple(_data_of(run))
    return replace(
        found,
        run_id=run.info.run_id,
        run_name=run.info.run_name,
        code=_code_of(run.data.tags),
        data=data,
        steps=tuple(upstream(steps, [each.md5 for each in data])),
        checkpoint=_checkpoint_of(run.data.tags),
    )


def _data_of(run: Any) -> Iterator[Data]:
    """What was logged as a dataset, and what else DVC tagged the run with."""
    seen = set()
    for used in run.inputs.dataset_inputs if run.inputs else []:
        if used.dataset.source_type != "dvc":
            continue
        source = json.loads(used.dataset.source)
        context = next((tag.value for tag in used.tags if tag.key == "mlflow.data.context"), "logged")
        seen.add(source.get("md5"))
        yield Data(str(source.get("path")), str(source.get("md5")), context, source.get("uri"))
    for path, md5 in json.loads(run.data.tags.get(TAGS["hashes"], "{}")).items():
        if md5 not in seen:
            yield Data(path, md5, "stage")


def _code_of(tags: dict[str, str]) -> Code | None:
    commit = tags.get(TAGS["rev"]) or tags.get("mlflow.source.git.commit")
    if commit is None:
        return None
    repo = tags.get(TAGS["repo"]) or tags.get("mlflow.source.git.repoURL")
    return Code(repo, commit, tags.get(TAGS["stage"]), tags.get(TAGS["experiment"]))


def _checkpoint_of(tags: dict[str, str]) -> str | None:
    if CHECKPOINT_TAG not in tags:
        return None
    step, digest = (tags.get(f"{CHECKPOINT_TAG}.{part}") for part in ("step", "digest"))
    return f"{tags[CHECKPOINT_TAG]} step {step} ({digest})" if step else tags[CHECKPOINT_TAG]


def _parents_of(logged: Any) -> tuple[str, ...]:
    parent = logged.tags.get(PARENT_TAG)
    return (parent,) if parent else ()


def _versions_of(model: str, run_id: str | None, client: Any) -> Iterator[str]:
    """Registered versions of a model; a version names its model in its source, and mostly the run as well."""
    if run_id is None:
        return
    for version in _paged(partial(client.search_model_versions, f"run_id='{run_id}'")):
        if model in str(version.source) or str(version.source).startswith("runs:"):
            yield f"{version.name}/{version.version}"


def _models_named(reference: str, client: Any) -> list[str]:
    bare = reference.removeprefix("models:/")
    if _MODEL.fullmatch(bare):
        return [bare]
    if reference.startswith("runs:/"):
        run_id = reference.removeprefix("runs:/").partition("/")[0]
        models = _models_of_run(client.get_run(run_id))
        if not models:
            raise ModelUnknown(f"run {run_id} has logged no model", remedy="name another run, or a model")
        return models
    return [_registered(bare, client)]


def _registered(name: str, client: Any) -> str:
    model, mark, alias = name.partition("@")
    if mark:
        version = client.get_model_version_by_alias(model, alias)
    else:
        model, slash, number = name.rpartition("/")
        if not slash:
            raise ModelUnknown(
                f"{name!r} names no version of a model",
                remedy="write it as NAME/VERSION, NAME@ALIAS, m-... or runs:/ID",
            )
        version = client.get_model_version(model, number)
    found = _MODEL.search(str(version.source))
    if found:
        return found[0]
    models = _models_of_run(client.get_run(version.run_id)) if version.run_id else []
    if not models:
        raise ModelUnknown(
            f"{name} was registered from {version.source}, which is no logged model", remedy="log it with log_model"
        )
    return models[0]


def _models_of_run(run: Any) -> list[str]:
    return [output.model_id for output in run.outputs.model_outputs] if run.outputs else []


def _data_named(data: str) -> list[Data]:
    """The data of a path and a revision, or of an MD5; for a file in a tracked directory also that directory."""
    if _MD5.fullmatch(data):
        return [Data("", data, "asked for")]
    path, rev = _path_and_revision(data)
    project = _project_of(data)
    if project is None:
        raise DataUntracked(f"{data} names nothing: it is in no DVC project", remedy="give the MD5, or go there")
    found = tracked(path, rev=rev or "HEAD")
    return [Data(found.path, found.md5, "asked for"), *_around(project, project.path_of(path), rev or "HEAD")]


def _path_and_revision(data: str) -> tuple[str, str]:
    path, _, rev = data.rpartition("@") if "@" in data else (data, "", "")
    return path, rev


def _project_of(data: str) -> Project | None:
    return project_around(Path(_path_and_revision(data)[0]).parent)


def _around(project: Project, path: str, rev: str) -> Iterator[Data]:
    for above in list((project.root / path).parents):
        if above == project.root:
            return
        try:
            found = tracked(above, rev=rev)
        except DataUntracked:
            continue
        yield Data(found.path, found.md5, "holds it")


def _models_of(data: Data, client: Any) -> Iterator[tuple[str, str]]:
    """The models of all runs that logged this data, or that ran in a stage with it."""
    experiments = [each.experiment_id for each in _paged(client.search_experiments)]
    by_tag = f"tags.`{TAGS['hashes']}` LIKE '%{data.md5}%'"
    for question in (f"dataset.digest = '{data.md5}'", by_tag):
        for run in _paged(partial(client.search_runs, experiments, question, max_results=_PAGE)):
            for model in _models_of_run(run):
                yield model, f"{data.path or data.md5} in run {run.info.run_name}"


def _add_descendants(found: dict[str, str], client: Any) -> None:
    """Models made from these models, and so on: the tag of each names the one it was made from."""
    experiments = [each.experiment_id for each in _paged(client.search_experiments)]
    waiting = list(found)
    while waiting:
        parent = waiting.pop()
        question = f"tags.`{PARENT_TAG}` = '{parent}'"
        for model in _paged(partial(client.search_logged_models, experiments, filter_string=question)):
            if model.model_id not in found:
                found[model.model_id] = f"models:/{parent}, which it was made from"
                waiting.append(model.model_id)


def _paged(ask: Callable[..., Any]) -> Iterator[Any]:
    token: str | None = None
    while True:
        page = ask(page_token=token)
        yield from page
        token = page.token
        if not token:
            return
