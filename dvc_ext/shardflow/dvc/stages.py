"""What a running stage is made from, as DVC will write it into dvc.lock when the stage has ended."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from blake3 import blake3
from dvc.dvcfile import PROJECT_FILE
from dvc.repo import Repo

from shardflow.dvc.projects import Project, Stage, project_around
from shardflow.errors import ShardflowError

if TYPE_CHECKING:
    from dvc.stage import PipelineStage


class StageUnknown(ShardflowError):
    """DVC says that a stage runs, and the project has no such stage."""


@dataclass(frozen=True, slots=True)
class Made:
    """The command of a stage, the hashes of what it depends on by path, and its parameters by file."""

    stage: str
    """The file that has it, below the root of the project, and its name: `dvc.yaml:train`."""
    command: str
    deps: Mapping[str, str]
    params: Mapping[str, Mapping[str, Any]]

    @property
    def name(self) -> str:
        return self.stage.partition(f"{PROJECT_FILE}:")[2]

    @property
    def identity(self) -> str:
        """A name for these inputs: the same for two runs exactly if nothing they depend on differs."""
        document = {"command": self.command, "deps": dict(self.deps), "params": {**self.params}}
        return blake3(json.dumps(document, sort_keys=True, default=str).encode()).hexdigest()[:16]


def hashes_of(stage: Stage) -> Made:
    """What the stage that this process runs in is made from. DVC hashed it a moment ago, so this is quick."""
    project = project_around() or Project(stage.root)
    with closing(Repo(str(project.root))) as repo:
        found = _stage_named(stage.name or "", repo.index.stages)
        deps = {_path_of(dep, project): str(dep.get_hash().value) for dep in found.deps if dep not in found.params}
        params = {_path_of(dep, project): dep.read_params() for dep in found.params}
        command = found.cmd if isinstance(found.cmd, str) else "\n".join(found.cmd or [])
    return Made(_address(found), command, deps, params)


def _stage_named(name: str, stages: list[PipelineStage]) -> PipelineStage:
    """By what DVC calls it; of several, the one that runs in this directory, or in the nearest above."""
    named = [stage for stage in stages if _may_be(stage, name)]
    here = Path.cwd()
    around = [stage for stage in named if here.is_relative_to(stage.wdir)]
    nearest = max((len(stage.wdir) for stage in around), default=0)
    found = [stage for stage in around if len(stage.wdir) == nearest] or named
    if not found:
        raise StageUnknown(f"no dvc.yaml has a stage {name}", remedy="start the stage with 'dvc repro'")
    if len(found) > 1:
        several = " and ".join(sorted(_address(stage) for stage in found))
        raise StageUnknown(
            f"the stage {name} that runs may be {several}", remedy="give each of these stages a name of its own"
        )
    return found[0]


def _may_be(stage: PipelineStage, name: str) -> bool:
    """Whether DVC may call it so: `train`, or `below/dvc.yaml:train`, where the path begins where `dvc` was started.

    Nothing tells where that was, and `dvc.yaml` is left out: what follows the last `..` has to be the end of the path.
    """
    own = getattr(stage, "name", None)
    if own is None or not f":{name}".endswith(f":{own}"):
        return False
    file = PurePosixPath(name[: -len(own) - 1] or PROJECT_FILE)
    known = [part for part in file.parts if part != ".."]
    return list(Path(stage.path_in_repo).parts[-len(known) :]) == known


def _address(stage: PipelineStage) -> str:
    return f"{stage.path_in_repo}:{stage.name}"


def _path_of(dep: Any, project: Project) -> str:
    return project.path_of(dep.fs_path) if dep.is_in_repo else str(dep.def_path)
