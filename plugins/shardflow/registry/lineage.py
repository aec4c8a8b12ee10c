"""Where a model version comes from and what came of it: parents, run, code and datasets, all of it in one look."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import Any

from shardflow.registry.evidence import COMMIT_TAGS
from shardflow.registry.evidence_tags import LINEAGE_FILTER
from shardflow.registry.references import Registered, described, every

Name = tuple[str, int]
"""A version; with the number 0, a model that this registry does not have, by what it is called elsewhere."""

PARENTS_TAG = "shardflow.parents"


@dataclass(frozen=True, slots=True)
class Link:
    """That one version was made from another, and how."""

    child: Name
    parent: Name
    relation: str


@dataclass(frozen=True, slots=True)
class Dataset:
    """Data that a run has used."""

    name: str
    digest: str
    source: str
    context: str | None = None


@dataclass(frozen=True, slots=True)
class Origin:
    """The run that made a version, as far as there is one."""

    run_id: str | None = None
    run_name: str | None = None
    user: str | None = None
    code: str | None = None
    commit: str | None = None
    datasets: tuple[Dataset, ...] = ()


@dataclass(frozen=True, slots=True)
class Lineage:
    """All relatives of one version."""

    of: Name
    versions: Mapping[Name, Registered]
    links: tuple[Link, ...]
    origin: Origin = field(default_factory=Origin)

    def as_dict(self) -> dict[str, Any]:
        up, down = distances(self, self.of, towards="parents"), distances(self, self.of, towards="children")
        return {
            "version": self._told(self.of),
            "origin": asdict(self.origin),
            "ancestors": [{**self._told(name), "distance": steps} for name, steps in up.items() if steps],
            "descendants": [{**self._told(name), "distance": steps} for name, steps in down.items() if steps],
            "links": [
                {"child": written(link.child), "parent": written(link.parent), "relation": link.relation}
                for link in self.links
            ],
        }

    def _told(self, name: Name) -> dict[str, Any]:
        found = self.versions.get(name)
        return {
            "name": written(name),
            "semantic": found.semantic.text if found and found.semantic else None,
            "status": found.status.value if found else None,
        }


def lineage_of(found: Registered, client: Any) -> Lineage:
    """The lineage of a version: asked of the registry in one search, or put together where it does not know how."""
    known = {(each.model, each.version): each for each in relatives(found, client)}
    known.setdefault((found.model, found.version), found)
    of = (found.model, found.version)
    links = _connected(of, [link for each in known.values() for link in links_of(each)])
    names = {of} | {name for link in links for name in (link.child, link.parent)}
    versions = {name: each for name, each in known.items() if name in names}
    return Lineage(of, versions, links, origin_of(found, client))


def relatives(found: Registered, client: Any) -> Iterable[Registered]:
    """A version and all that descends from it or that it descends from, each with its parents in its tags."""
    from mlflow.exceptions import MlflowException  # noqa: PLC0415

    escaped = found.model.replace("'", "''")
    try:
        return [described(each) for each in every(client, f"{LINEAGE_FILTER} = '{escaped}/{found.version}'")]
    except MlflowException as error:
        if error.error_code != "INVALID_PARAMETER_VALUE":
            raise
    # A registry without this package has the tags, and no way to search for what they say.
    return [described(each) for each in every(client)]


def links_of(found: Registered) -> list[Link]:
    """What the tag of a version says of its parents; nothing if it cannot be read."""
    parents = []
    with suppress(ValueError, TypeError, KeyError, AttributeError):
        for each in json.loads(found.tags.get(PARENTS_TAG, "[]")):
            parent = (str(each["model"]), int(each.get("version") or 0))
            parents.append(Link((found.model, found.version), parent, str(each.get("relation", "base"))))
    return parents


def distances(lineage: Lineage, start: Name, *, towards: str) -> dict[Name, int]:
    """Every ancestor or every descendant of a version, by how many steps it is away, the nearest first."""
    after: dict[Name, list[Name]] = {}
    for link in lineage.links:
        near, far = (link.child, link.parent) if towards == "parents" else (link.parent, link.child)
        after.setdefault(near, []).append(far)
    found, waiting = {start: 0}, deque([start])
    while waiting:
        name = waiting.popleft()
        for further in after.get(name, ()):
            if further not in found:
                found[further] = found[name] + 1
                waiting.append(further)
    return found


def distance(lineage: Lineage, one: Name, other: Name) -> int | None:
    """The steps between two versions over the nearest that both come from; None if they have nothing in common."""
    up, other_up = (distances(lineage, name, towards="parents") for name in (one, other))
    return min((up[name] + other_up[name] for name in up if name in other_up), default=None)


def origin_of(found: Registered, client: Any) -> Origin:
    """The run, the code and the data behind a version."""
    from mlflow.exceptions import MlflowException  # noqa: PLC0415  # takes a second

    try:
        run_id = found.run_id or (client.get_logged_model(found.model_id).source_run_id if found.model_id else None)
        if not run_id:
            return Origin()
        run = client.get_run(run_id)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return Origin(found.run_id)
    tags = run.data.tags
    inputs = run.inputs.dataset_inputs if run.inputs else []
    return Origin(
        run_id,
        run.info.run_name,
        tags.get("mlflow.user") or run.info.user_id,
        tags.get("mlflow.source.git.repoURL") or tags.get("mlflow.source.name"),
        next((tags[tag] for tag in COMMIT_TAGS if tags.get(tag)), None),
        tuple(_dataset(each) for each in inputs),
    )


def written(name: Name) -> str:
    return f"{name[0]}/{name[1]}" if name[1] else name[0]


def title(lineage: Lineage, name: Name) -> str:
    """A version as people see it: llama/3 (1.4.2), production."""
    found = lineage.versions.get(name)
    if found is None:
        return written(name) + ("" if name[1] else ", from elsewhere")
    return f"{found.title}, {found.status}"


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a tree: how deep it stands, and what it shows."""

    depth: int
    name: Name
    relation: str
    again: bool = False  # it stands above already, with all that hangs on it
    more: int = 0  # so many hang on it that are not shown


def tree(lineage: Lineage, *, towards: str, deepest: int) -> Iterator[Line]:
    """A version's ancestors or descendants as a tree; what can be reached in two ways is shown in full once."""
    by_name = _grouped(lineage.links, towards)
    seen: set[Name] = {lineage.of}
    waiting = [(1, link) for link in reversed(by_name.get(lineage.of, []))]
    while waiting:
        depth, link = waiting.pop()
        name = link.parent if towards == "parents" else link.child
        again, below = name in seen, by_name.get(name, [])
        seen.add(name)
        hidden = len(distances(lineage, name, towards=towards)) - 1 if below and depth >= deepest and not again else 0
        yield Line(depth, name, link.relation, again, hidden)
        if not again and depth < deepest:
            waiting += [(depth + 1, each) for each in reversed(below)]


def _grouped(links: Iterable[Link], towards: str) -> dict[Name, list[Link]]:
    found: dict[Name, list[Link]] = {}
    for link in sorted(links, key=lambda link: (link.child, link.parent)):
        found.setdefault(link.child if towards == "parents" else link.parent, []).append(link)
    return found


def _connected(start: Name, links: list[Link]) -> tuple[Link, ...]:
    """The links on the way up from a version, and those on the way down."""
    whole = Lineage(start, {}, tuple(links))
    up = distances(whole, start, towards="parents")
    down = distances(whole, start, towards="children")
    return tuple(link for link in links if link.child in up or link.parent in down)


def _dataset(found: Any) -> Dataset:
    data = found.dataset
    context = next((tag.value for tag in found.tags if tag.key == "mlflow.data.context"), None)
    return Dataset(data.name, data.digest, _where(data.source), context)


def _where(source: str) -> str:
    """The place in a dataset's source, which MLflow keeps as JSON of each kind's own making."""
    try:
        described_as = json.loads(source)
    except ValueError:
        return source
    for key in ("uri", "url", "path", "repo_url"):
        if isinstance(described_as, dict) and isinstance(described_as.get(key), str):
            return str(described_as[key])
    return source[:200]
