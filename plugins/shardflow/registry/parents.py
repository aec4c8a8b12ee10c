"""What a version was made from: the edges of the lineage, and all that it descends from or gave rise to.

A walk over a whole line of descent is one query (a recursive common table expression), however long it is.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeAlias

from sqlalchemy import CTE, Column, ColumnElement, Select, and_, cast, delete, insert, literal, select, text, update

from shardflow.registry.tables import PARENTS, Database, dialect_of

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


_End: TypeAlias = tuple[Column[Any], Column[Any]]

_EDGE = [PARENTS.c[name] for name in Edge.__slots__]  # taken as tuples: a line of descent can have a thousand
_CHILD: _End = (PARENTS.c.child_model, PARENTS.c.child_version)
_PARENT: _End = (PARENTS.c.parent_model, PARENTS.c.parent_version)
_STEP_BY_INDEX = text("SELECT set_config('enable_hashjoin', 'off', true), set_config('enable_mergejoin', 'off', true)")


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
    return _edges_from(db, ancestors(db, model, version), _CHILD)


def edges_down(db: Database, model: str, version: int) -> list[Edge]:
    """Every edge between a version and the last of its descendants."""
    return _edges_from(db, descendants(db, model, version), _PARENT)


def ancestors(db: Database, model: str, version: int) -> CTE:
    """A version and all that it descends from, as columns `model` and `version` of a query on this connection."""
    return _walk(db, "ancestors", model, version, _CHILD, _PARENT)


def descendants(db: Database, model: str, version: int) -> CTE:
    """A version and all that descends from it, in the same way."""
    return _walk(db, "descendants", model, version, _PARENT, _CHILD)


def forget_edges(db: Database, model: str, version: int | None = None) -> None:
    """Remove the edges from a version, or from all versions of a model, to their parents."""
    query = delete(PARENTS).where(PARENTS.c.child_model == model)
    db.execute(query if version is None else query.where(PARENTS.c.child_version == version))


def rename_edges(db: Database, model: str, new_name: str) -> None:
    db.execute(update(PARENTS).where(PARENTS.c.child_model == model).values(child_model=new_name))
    inside = and_(PARENTS.c.parent_model == model, PARENTS.c.parent_version != OUTSIDE)
    db.execute(update(PARENTS).where(inside).values(parent_model=new_name))


def _walk(db: Database, name: str, model: str, version: int, here: _End, there: _End) -> CTE:
    """All that can be reached, however many steps it takes, going from one end of edges to the other."""
    _let_walk(db)
    first = cast(model, here[0].type)  # as wide as the column: MySQL would not let longer names follow a short one
    seen = select(first.label("model"), literal(version).label("version")).cte(name, recursive=True)
    step = select(*there).join(seen, _at(seen, here))
    return seen.union(step)  # a union, not a union all: a circle ends


def _edges_from(db: Database, seen: CTE, end: _End) -> list[Edge]:
    return _edges(db, select(*_EDGE).join(seen, _at(seen, end)))


def _at(seen: CTE, end: _End) -> ColumnElement[bool]:
    return and_(end[0] == seen.c.model, end[1] == seen.c.version)


def _let_walk(db: Database) -> None:
    """Tell the database to take each step by an index, and as many of them as there are."""
    dialect = dialect_of(db)
    if dialect.name == "postgresql":  # which would read the whole table at each step
        db.execute(_STEP_BY_INDEX)
    elif dialect.name in {"mysql", "mariadb"}:  # which would end after 1000 steps, one of them without a word
        limit = "max_recursive_iterations" if getattr(dialect, "is_mariadb", False) else "cte_max_recursion_depth"
        db.execute(text(f"SET SESSION {limit} = {MOST_STEPS}"))


def _edges(db: Database, query: Select[Any]) -> list[Edge]:
    return [Edge(*row) for row in db.execute(query)]


def _ends(edge: Edge) -> tuple[str, int, str, int]:
    return edge.child_model, edge.child_version, edge.parent_model, edge.parent_version
