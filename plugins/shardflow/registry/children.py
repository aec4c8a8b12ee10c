"""Shows on a version what was made from it: a tag that the registry writes anew whenever the lineage grows or shrinks.

Parents are in the tag `shardflow.parents` of the child, so both ends of every step are on MLflow's pages.
"""

from __future__ import annotations

from collections.abc import Iterable

from shardflow.registry.moving import remove_tag, write_tag
from shardflow.registry.parents import OUTSIDE, Edge, children_of
from shardflow.registry.tables import Database

CHILDREN_TAG = "shardflow.children"
MOST_SHOWN = 20


def show_children(db: Database, edges: Iterable[Edge]) -> None:
    """Write on the parents of these edges, as far as they are in this registry, what was made from them."""
    for model, version in sorted({(edge.parent_model, edge.parent_version) for edge in edges}):
        if version == OUTSIDE:
            continue
        children = children_of(db, model, version)
        if children:
            write_tag(db, model, version, CHILDREN_TAG, _listed(children))
        else:
            remove_tag(db, model, version, CHILDREN_TAG)


def _listed(children: Iterable[Edge]) -> str:
    names = [f"{model}/{version}" for model, version in sorted((e.child_model, e.child_version) for e in children)]
    hidden = len(names) - MOST_SHOWN
    return ", ".join(names[:MOST_SHOWN]) + (f" and {hidden} more" if hidden > 0 else "")
