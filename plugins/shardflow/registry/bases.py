"""What versions were made from, as far as clients see it: by their own tags and sources, and by the tags of the others.

A registry with this package rewrites these tags when a model is renamed. MLflow's own leaves them, so that what they
name may have another name by now.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from shardflow.registry.children import CHILDREN_TAG
from shardflow.registry.lineage import Name, links_of, written
from shardflow.registry.references import Registered
from shardflow.registry.registering import copied_from

_COPY = "copy"
_CHILD = re.compile(r"([^/]+)/(\d+)(?:, | and \d+ more$|$)")
_MORE = re.compile(r" and \d+ more$")


def name_of(version: Registered) -> Name:
    return version.model, version.version


def bases_of(version: Registered) -> set[Name]:
    """What a version says that it was made from: by its tag, and for a copy, which may have no tag, by its source."""
    links = links_of(version)
    original = None if any(link.relation == _COPY for link in links) else copied_from(version.source)
    return {link.parent for link in links} | ({original} if original else set())


def children_shown(version: Registered) -> set[Name]:
    """What the registry shows on a version of those that were made from it; some of them may be gone."""
    return {(found[1], int(found[2])) for found in _CHILD.finditer(version.tags.get(CHILDREN_TAG, ""))}


def has_more_children(version: Registered) -> bool:
    """Whether the registry shows only some of them."""
    return _MORE.search(version.tags.get(CHILDREN_TAG, "")) is not None


def may_be(version: Registered, lost: Name, child: Registered) -> bool:
    """Whether a version may be the base that a child names by a name that nobody has any more.

    It was there before the child and was changed after it, as renaming does.
    """
    is_it = name_of(version) == name_of(child)
    return version.version == lost[1] and not is_it and version.created <= child.created <= version.updated


def all_bases(versions: Mapping[Name, Registered]) -> dict[Name, dict[Name, str]]:
    """All that each of these versions was made from, or may have been, and how that is told."""
    models, numbered = {model for model, _ in versions}, dict[int, list[Registered]]()
    for version in versions.values():
        numbered.setdefault(version.version, []).append(version)
    found: dict[Name, dict[Name, str]] = {name: {} for name in versions}
    for name, version in versions.items():
        for base in bases_of(version):
            if base in versions:
                found[name][base] = f"{version.name} was made from it"
            elif base[0] not in models:
                reason = f"{version.name} may have been made from it, when it was called {written(base)}"
                renamed = [each for each in numbered.get(base[1], ()) if may_be(each, base, version)]
                found[name] |= {name_of(each): reason for each in renamed}
        for child in children_shown(version) & versions.keys():
            found[child][name] = f"{written(child)} was made from it"
    return found
