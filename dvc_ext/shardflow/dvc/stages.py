"""What a running stage is made from, as DVC will write it into dvc.lock when the stage has ended."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blake3 import blake3
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

    command: str
    deps: Mapping[str, str]
    params: Mapping[str, Mapping[str, Any]]

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
    return Made(command, deps, params)


def _stage_named(name: str, stages: list[PipelineStage]) -> PipelineStage:
    """By the name in `dvc.yaml`, or in `below/dvc.yaml:name`; of two, the one that runs in this directory."""
    named = [stage for stage in stages if getattr(stage, "name", None) == name.rpartition(":")[2]]
    here = str(Path.cwd())
    found = next((stage for stage in named if stage.wdir == here), None) or next(iter(named), None)
    if found is None:
        raise StageUnknown(f"no dvc.yaml has a stage {name}", remedy="start the stage with 'dvc repro'")
    return found


def _path_of(dep: Any, project: Project) -> str:
    return project.path_of(dep.fs_path) if dep.is_in_repo else str(dep.def_path)
