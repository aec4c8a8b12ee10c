"""Keeps what others rely on from being deleted or renamed, and takes the registry's own rows along with what is."""

from __future__ import annotations

from shardflow.registry.audit import DELETED
from shardflow.registry.children import show_children
from shardflow.registry.claims import PARENTS_TAG, edges_text
from shardflow.registry.deployments import rename_deployments
from shardflow.registry.facts import forget_facts, rename_facts
from shardflow.registry.lifecycle import IN_USE
from shardflow.registry.moving import standings, write_tag
from shardflow.registry.naming import name_with_version
from shardflow.registry.parents import children_of, forget_edges, parents_of, rename_edges
from shardflow.registry.refusals import CONFLICT, Refused
from shardflow.registry.statements import forget_statements, rename_statements
from shardflow.registry.tables import Database


def unused(db: Database, model: str, version: int | None, action: str, after: str | None = None) -> None:
    """Refuse what would take away a version that others rely on."""
    for one in standings(db, model, version):
        facts = one.facts
        if facts.status in IN_USE and version in (None, facts.version):
            raise Refused(
                f"archive {model}/{facts.version} first",
                f"it is in {facts.status}",
                action=action,
                model=model,
                version=version,
                before=facts.status.value,
                after=after,
                code=CONFLICT,
            )


def childless(db: Database, model: str) -> None:
    """Refuse to delete a model whose name stands in the lineage of others: somebody else could take it."""
    heirs = [one for one in children_of(db, model) if one.child_model != model]
    if heirs:
        heir = f"{heirs[0].child_model}/{heirs[0].child_version}"
        raise Refused(
            f"delete {heir} first",
            f"it was made from {model}/{heirs[0].parent_version}",
            action=DELETED,
            model=model,
            code=CONFLICT,
        )


def forget(db: Database, model: str, version: int | None = None) -> None:
    """Remove what is known of a version or a whole model; deployments and the trail stay."""
    forget_facts(db, model, version)
    forget_statements(db, model, version)
    if version is None:  # its number is never given again, so its place in the lineage of others may stay
        parents = parents_of(db, model)
        forget_edges(db, model)
        show_children(db, (edge for edge in parents if edge.parent_model != model))


def take_along(db: Database, model: str, new_name: str) -> None:
    """Let everything that is known of a model be known under its new name."""
    rename_facts(db, model, new_name)
    rename_statements(db, model, new_name)
    rename_edges(db, model, new_name)
    show_children(db, parents_of(db, new_name))
    _show_parents(db, {(edge.child_model, edge.child_version) for edge in children_of(db, new_name)})
    rename_deployments(db, model, new_name)


def _show_parents(db: Database, children: set[tuple[str, int]]) -> None:
    """Write on versions what they were made from, also on copies, whose source has the name that is gone."""
    for model, number in sorted(children):
        if name_with_version(db, model, number):  # edges stay when a version goes
            write_tag(db, model, number, PARENTS_TAG, edges_text(parents_of(db, model, number)))
