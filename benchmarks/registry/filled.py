"""Registries of many models and versions, written straight into the tables: registering each would take hours."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from mlflow.store.model_registry.dbmodels.models import (
    SqlModelVersion,
    SqlModelVersionTag,
    SqlRegisteredModel,
    SqlRegisteredModelAlias,
)
from sqlalchemy import Engine, insert

from shardflow.registry.facts import Semantic
from shardflow.registry.tables import PARENTS, VERSIONS, milliseconds
from shardflow.registry.versions import alias_of

PAGE = 20_000
STAGES = ("None", "Staging", "Production", "Archived")
FOLLOWED = ("staging", "production")
AGE = 3600.0  # of what is filled in, so that no policy has to wait for it
CHAIN = "chain"
PARENT_TAG = "parent"
"""How somebody without lineage would note it: a tag with the number of the version before."""
CHAMPION = "champion"
STATUSES = ("draft", "staging", "production", "archived")


def name_of(number: int) -> str:
    return f"model-{number:05}"


def semantic_of(version: int) -> Semantic:
    return Semantic(f"1.{version}.0", 1, version, 0)


def stage_of(version: int, versions: int) -> int:
    """The newest few are drafts and in staging, one serves, the rest are archived."""
    return {versions: 0, versions - 1: 1, versions - 2: 1, versions - 3: 2}.get(version, 3)


def fill(engine: Engine, models: int, versions: int, *, ours: bool) -> None:
    """Models with versions, a tag and an alias each, and a few aliases more; `ours` adds the registry's own tables."""
    now = milliseconds(time.time() - AGE)
    pairs = [(model, version) for model in range(models) for version in range(1, versions + 1)]
    common = {"creation_time": now, "last_updated_time": now}
    _write(engine, SqlRegisteredModel, ({"name": name_of(model), **common} for model in range(models)))
    _write(engine, SqlModelVersion, (_version(*pair, versions, common) for pair in pairs))
    _write(engine, SqlModelVersionTag, (_tag(*pair, versions) for pair in pairs))
    _write(engine, SqlRegisteredModelAlias, (_alias(*pair) for pair in pairs))
    followed = ((model, status, newest_in(status, versions)) for model in range(models) for status in FOLLOWED)
    _write(engine, SqlRegisteredModelAlias, (_status_alias(*one) for one in followed))
    champions = ({"name": name_of(model), "version": versions, "alias": CHAMPION} for model in range(models))
    _write(engine, SqlRegisteredModelAlias, champions)
    if ours:
        _write(engine, VERSIONS, (_facts(*pair, versions, now) for pair in pairs))


def fill_chain(engine: Engine, length: int, *, ours: bool) -> None:
    """A line of versions of one model, each made from the one before."""
    now = milliseconds(time.time() - AGE)
    common = {"creation_time": now, "last_updated_time": now}
    numbers = range(1, length + 1)
    _write(engine, SqlRegisteredModel, iter([{"name": CHAIN, **common}]))
    sources = ({"name": CHAIN, "version": n, "source": f"s3://chain/{n}", "current_stage": "None"} for n in numbers)
    _write(engine, SqlModelVersion, ({**source, **common} for source in sources))
    parents = ({"name": CHAIN, "version": n, "key": PARENT_TAG, "value": str(n - 1)} for n in numbers)
    _write(engine, SqlModelVersionTag, parents)
    if ours:
        edges = ((n, n - 1) for n in range(2, length + 1))
        _write(engine, PARENTS, (_edge(*pair) for pair in edges))


def _edge(child: int, parent: int) -> dict[str, Any]:
    ends = {"child_model": CHAIN, "child_version": child, "parent_model": CHAIN, "parent_version": parent}
    return {**ends, "relation": "base"}


def _version(model: int, version: int, versions: int, common: dict[str, int]) -> dict[str, Any]:
    source = f"models:/m-{model:016x}{version:016x}"
    stage = STAGES[stage_of(version, versions)]
    return {"name": name_of(model), "version": version, "source": source, "current_stage": stage, **common}


def _tag(model: int, version: int, versions: int) -> dict[str, Any]:
    status = STATUSES[stage_of(version, versions)]
    return {"name": name_of(model), "version": version, "key": "shardflow.status", "value": status}


def _alias(model: int, version: int) -> dict[str, Any]:
    return {"name": name_of(model), "version": version, "alias": alias_of(semantic_of(version))}


def newest_in(status: str, versions: int) -> int:
    """The version that the alias of a status is with."""
    return max(version for version in range(1, versions + 1) if STATUSES[stage_of(version, versions)] == status)


def _status_alias(model: int, status: str, version: int) -> dict[str, Any]:
    return {"name": name_of(model), "version": version, "alias": status}


def _facts(model: int, version: int, versions: int, now: int) -> dict[str, Any]:
    semantic = semantic_of(version)
    stage = stage_of(version, versions)
    return {
        "model": name_of(model),
        "version": version,
        "status": STATUSES[stage],
        "entered_at": now,
        "author": "ada",
        "served": stage == 2,
        "semantic": semantic.text,
        "major": 1,
        "minor": version,
        "patch": 0,
        "pre": "",
    }


def _write(engine: Engine, table: Any, rows: Iterator[dict[str, Any]]) -> None:
    page: list[dict[str, Any]] = []
    with engine.begin() as connection:
        for row in rows:
            page.append(row)
            if len(page) == PAGE:
                connection.execute(insert(table), page)
                page = []
        if page:
            connection.execute(insert(table), page)
