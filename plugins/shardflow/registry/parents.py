"""What a version was made from: the edges of the lineage, and all that it descends from or gave rise to.

A walk over a whole line of descent is one query (a recursive common table expression), however long it is.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select, and_, delete, insert, literal, select, text, update
from sqlalchemy.orm import Session

from shardflow.registry.tables import PARENTS, Database

MOST_STEPS = 1_000_000
OUTSIDE = 0
"""The version number of a parent that is not in this registry; its model is then any name of it."""


@dataclass(frozen=True, slots=True)
class Edge:
    """That one version was made from another."""

    child_model: str
    child_version: int
    parent_model: str
    parent_version: int
    relation: str = "base"
    """How: base (trained on from it), adapter (an adapter merged into it), merged, copy, ..."""


_EDGE = [PARENTS.c[name] for name in Edge.__slots__]  # taken as tuples: a line of descent can have a thousand


def add_edges(db: Database, edges: Iterable[Edge]) -> None:
    """Note what a version was made from; what is noted already stays."""
    known: set[tuple[str, int, str, int]] = set()
    children: set[tuple[str, int]] = set()
    for edge in edges:
        child = (edge.child_model, edge.child_version)
        if child not in children:
            children.add(child)
            known |= {_ends(one) for one in parents_of(db, *child)}
        if _ends(edge) not in known:
            known.add(_ends(edge))
            db.execute(insert(PARENTS).values(**{name: getattr(edge, name) for name in Edge.__slots__}))


def parents_of(db: Database, model: str, version: int | None = None) -> list[Edge]:
    """What a version was made from, or any version of a model."""
    query = select(*_EDGE).where(PARENTS.c.child_model == model)
    return _edges(db, query if version is None else query.where(PARENTS.c.child_version == version))


def children_of(db: Database, model: str, version: int | None = None) -> list[Edge]:
    """What was made from a version, or from any version of a model."""
    query = select(*_EDGE).where(PARENTS.c.parent_model == model, PARENTS.c.parent_version != OUTSIDE)
    return _edges(db, query if version is None else query.where(PARENTS.c.parent_version == version))


def edges_up(db: Database, model: str, version: int) -> list[Edge]:
    """Every edge between a version and the ends of its line of ancestors."""
    seen = select(literal(model).label("model"), literal(version).label("version")).cte("seen", recursive=True)
    step = select(PARENTS.c.parent_model, PARENTS.c.parent_version).join(
        seen, and_(PARENTS.c.child_model == seen.c.model, PARENTS.c.child_version == seen.c.version)
    )
    seen = seen.union(step)  # a union, not a union all: a circle ends
    joined = and_(PARENTS.c.child_model == seen.c.model, PARENTS.c.child_version == seen.c.version)
    return _walked(db, select(*_EDGE).join(seen, joined))


def edges_down(db: Database, model: str, version: int) -> list[Edge]:
    """Every edge between a version and the last of its descendants."""
    seen = select(literal(model).label("model"), literal(version).label("version")).cte("seen", recursive=True)
    step = select(PARENTS.c.child_model, PARENTS.c.child_version).join(
        seen, and_(PARENTS.c.parent_model == seen.c.model, PARENTS.c.parent_version == seen.c.version)
    )
    seen = seen.union(step)
    joined = and_(PARENTS.c.parent_model == seen.c.model, PARENTS.c.parent_version == seen.c.version)
    return _walked(db, select(*_EDGE).join(seen, joined))


def forget_edges(db: Database, model: str, version: int | None = None) -> None:
    """Remove the edges from a version, or from all versions of a model, to their parents."""
    query = delete(PARENTS).where(PARENTS.c.child_model == model)
    db.execute(query if version is None else query.where(PARENTS.c.child_version == version))


def rename_edges(db: Database, model: str, new_name: str) -> None:
    db.execute(update(PARENTS).where(PARENTS.c.child_model == model).values(child_model=new_name))
    inside = and_(PARENTS.c.parent_model == model, PARENTS.c.parent_version != OUTSIDE)
    db.execute(update(PARENTS).where(inside).values(parent_model=new_name))


def _walked(db: Database, query: Select[Any]) -> list[Edge]:
    """The answer of a recursive query, however many steps it takes."""
    dialect = (db.connection() if isinstance(db, Session) else db).dialect
    if dialect.name == "postgresql":  # which would read the whole table at each step
        db.execute(text("SET LOCAL enable_hashjoin = off"))
        db.execute(text("SET LOCAL enable_mergejoin = off"))
    elif dialect.name in {"mysql", "mariadb"}:  # which would end after 1000 steps, one of them without a word
        limit = "max_recursive_iterations" if getattr(dialect, "is_mariadb", False) else "cte_max_recursion_depth"
        db.execute(text(f"SET SESSION {limit} = {MOST_STEPS}"))
    return _edges(db, query)


def _edges(db: Database, query: Select[Any]) -> list[Edge]:
    return [Edge(*row) for row in db.execute(query)]


def _ends(edge: Edge) -> tuple[str, int, str, int]:
    return edge.child_model, edge.child_version, edge.parent_model, edge.parent_version
