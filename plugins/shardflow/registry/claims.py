"""Reserved tags: the words in which a client of MLflow asks the registry for what MLflow has no call for.

    shardflow.status        move the version: STATUS, or STATUS: REASON
    shardflow.version       its semantic version, such as 1.4.0
    shardflow.parents       what it was made from: a JSON array of {"model", "version", "relation"}
    shardflow.statement.*   a signed statement about it
    shardflow.deployment    that it was deployed: a JSON object
    shardflow.migrated_*    where `shardflow migrate` has its copy, or its original: nothing is concluded from it

They may be set when a version is registered or later, and are never deleted. What the registry made of them is written
as a tag of the same name, for people to see; nothing is ever concluded from a tag.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import msgspec

from shardflow.errors import ShardflowError
from shardflow.registry.deployments import DEPLOYMENT_TAG, Report, read_report
from shardflow.registry.evidence_tags import STATEMENT_TAG
from shardflow.registry.facts import Semantic
from shardflow.registry.legible import is_legible_line
from shardflow.registry.moving import STATUS_TAG
from shardflow.registry.parents import OUTSIDE, Edge
from shardflow.registry.spelling import begins_spelt
from shardflow.registry.terms import Status
from shardflow.registry.versions import VERSION_TAG, parse

RESERVED = "shardflow."
PARENTS_TAG = "shardflow.parents"
MOVED_TAGS = frozenset({"shardflow.migrated_to", "shardflow.migrated_from"})
LONGEST_REASON = 1000
LONGEST_PLACE = 4000
MOST_PARENTS = 100  # all of them are looked up while others wait for their turn


@dataclass(frozen=True, slots=True)
class Wish:
    """A move that is asked for by a tag."""

    status: Status
    reason: str | None


@dataclass(frozen=True, slots=True)
class Handed:
    """A signed statement as it was handed in: not checked yet, except that it is one."""

    kind: str
    body: bytes


class Parent(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """One entry of the tag `shardflow.parents`; without a version it is a name outside of this registry."""

    model: str
    version: int = OUTSIDE
    relation: Literal["base", "adapter", "merged", "copy"] = "base"


@dataclass(frozen=True, slots=True)
class Claims:
    """All that reserved tags say about one version."""

    wish: Wish | None = None
    semantic: Semantic | None = None
    parents: tuple[Parent, ...] = ()
    statements: tuple[Handed, ...] = ()
    deployment: Report | None = None
    shown: tuple[tuple[str, str], ...] = ()
    """Tags for people to see, without the status."""

    def edges(self, model: str, version: int) -> list[Edge]:
        return [Edge(model, version, one.model, one.version, one.relation) for one in self.parents]


def is_reserved(key: str) -> bool:
    return begins_spelt(key, RESERVED)


def read_claims(tags: Mapping[str, str]) -> Claims:
    """What reserved tags say, each of them checked for its form; a ShardflowError for the first that says nothing."""
    semantic: Semantic | None = None
    parents: tuple[Parent, ...] = ()
    statements, shown = list[Handed](), list[tuple[str, str]]()
    wish = read_wish(tags[STATUS_TAG]) if STATUS_TAG in tags else None
    deployment = read_report(tags[DEPLOYMENT_TAG]) if DEPLOYMENT_TAG in tags else None
    for key, value in tags.items():
        if key == VERSION_TAG:
            semantic = parse(value)
            shown.append((key, semantic.text))
        elif key == PARENTS_TAG:
            parents = read_parents(value)
            shown.append((key, value))
        elif key.startswith(STATEMENT_TAG):
            statements.append(_handed(value))
            shown.append((key, statements[-1].kind))
        elif key == DEPLOYMENT_TAG:
            shown.append((key, value))
        elif key in MOVED_TAGS:
            shown.append((key, _place(key, value)))
        elif key != STATUS_TAG:
            raise ShardflowError(
                f"{key} is no tag that the registry knows", remedy=f"use a name that does not begin with {RESERVED}"
            )
    return Claims(wish, semantic, parents, tuple(statements), deployment, tuple(shown))


def read_wish(text: str) -> Wish:
    """STATUS, or STATUS: REASON."""
    word, _, reason = text.partition(":")
    try:
        status = Status(word.strip().lower())
    except ValueError:
        raise ShardflowError(f"{word[:40]!r} is no status", remedy=f"name one of {', '.join(Status)}") from None
    return Wish(status, checked_reason(reason))


def checked_reason(text: str | None) -> str | None:
    """A reason fit for the trail, or None."""
    reason = (text or "").strip()
    if len(reason) > LONGEST_REASON or not reason.isprintable():
        raise ShardflowError(
            "the reason is not a line of text", remedy=f"give at most {LONGEST_REASON} letters in one line"
        )
    return reason or None


def read_parents(text: str) -> tuple[Parent, ...]:
    """The value of the tag `shardflow.parents`, each parent once."""
    try:
        named = msgspec.json.decode(text, type=tuple[Parent, ...])
    except msgspec.DecodeError as error:
        raise ShardflowError(
            f"{PARENTS_TAG} names no parents: {error}", remedy='write [{"model": "llama", "version": 3}]'
        ) from None
    if any(not _is_name(one.model) or one.version < 0 for one in named):
        raise ShardflowError(f"{PARENTS_TAG} names no parents", remedy="give each a model's name and version")
    parents: dict[tuple[str, int], Parent] = {}
    for one in named:
        parents.setdefault((one.model, one.version), one)
    if len(parents) > MOST_PARENTS:
        raise ShardflowError(
            f"{PARENTS_TAG} names {len(parents)} parents, and at most {MOST_PARENTS} are kept",
            remedy="name those that matter most",
        )
    return tuple(parents.values())


def parents_text(parents: Iterable[Parent]) -> str:
    """Parents as the value of the tag `shardflow.parents`."""
    return msgspec.json.encode(list(parents)).decode()


def edges_text(edges: Iterable[Edge]) -> str:
    """The parents of one version, by the edges to them, as the value of the same tag."""
    ends = sorted((edge.parent_model, edge.parent_version, edge.relation) for edge in edges)
    return parents_text(Parent(*end) for end in ends)  # type: ignore[arg-type]


def _place(key: str, text: str) -> str:
    if not 0 < len(text) <= LONGEST_PLACE or not is_legible_line(text):
        raise ShardflowError(
            f"{key} names no place", remedy=f"give a URI of at most {LONGEST_PLACE} letters in one line"
        )
    return text


def _is_name(text: str) -> bool:
    return 0 < len(text) <= 256 and is_legible_line(text)


def _handed(text: str) -> Handed:
    from shardflow.registry.evidence_statements import kind_of  # noqa: PLC0415  # it brings the signing libraries

    return Handed(kind_of(text), text.encode())
