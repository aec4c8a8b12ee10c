"""What the registry writes when a version is registered, or when a reserved tag says something about it later."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from shardflow.errors import ShardflowError
from shardflow.registry.audit import CREATED, TAGGED, Event
from shardflow.registry.children import CHILDREN_TAG, show_children
from shardflow.registry.claims import Claims, is_reserved, read_claims
from shardflow.registry.deployments import Deployment, record
from shardflow.registry.facts import Semantic, VersionFacts, put_facts, version_of_semantic
from shardflow.registry.moving import (
    STATUS_TAG,
    Standing,
    remove_alias,
    version_tags,
    write_alias,
    write_tag,
)
from shardflow.registry.naming import name_with_version
from shardflow.registry.parents import OUTSIDE, Edge, add_edges
from shardflow.registry.prompts import makes_a_prompt, misplaced
from shardflow.registry.refusals import CONFLICT, MALFORMED, Refused
from shardflow.registry.statements import Statement, add_statement, statements_of
from shardflow.registry.tables import Database
from shardflow.registry.terms import Actor, Status
from shardflow.registry.versions import alias_of

LONGEST_SHOWN = 200
_OWN_SOURCE = re.compile(r"models:/([^/]+)/(\d{1,9})")
_STILL_OPEN = frozenset({Status.DRAFT, Status.TESTING})


def copied_from(source: str) -> tuple[str, int] | None:
    """The version of this registry that a source names, if it names one."""
    found = _OWN_SOURCE.fullmatch(source)
    return (found[1], int(found[2])) if found else None


def claims_at_birth(db: Database, model: str, source: str, tags: Mapping[str, str]) -> Claims:
    """What the reserved tags of a version to be say; refuses those that would be forged.

    MLflow's clients copy a version with all of its tags. What only repeats the original is left out: copies begin anew.
    """
    if any(makes_a_prompt(key) for key in tags):
        raise misplaced(model, CREATED)
    reserved = {key: value for key, value in tags.items() if is_reserved(key)}
    origin = copied_from(source)
    if origin:
        known_as = name_with_version(db, *origin)
        if known_as not in {None, origin[0]}:
            raise Refused(
                f"write models:/{known_as}/{origin[1]}",
                f"{source} has another spelling of its name",
                action=CREATED,
                model=model,
                after=source,
                code=MALFORMED,
            )
    if origin and reserved:
        reserved.pop(CHILDREN_TAG, None)  # there may be more children since the client looked
        known = version_tags(db, *origin)
        reserved = {key: value for key, value in reserved.items() if known.get(key) != value}
    claims = checked_claims(model, None, CREATED, reserved)
    if claims.wish and claims.wish.status is not Status.DRAFT:
        raise Refused(
            "register it without a status, then move it",
            f"every version begins as {Status.DRAFT}",
            action=CREATED,
            model=model,
            after=claims.wish.status.value,
        )
    if claims.deployment:
        raise Refused(
            "register it first", "what is not registered was not deployed from here", action=CREATED, model=model
        )
    return claims


def checked_claims(model: str, version: int | None, action: str, tags: Mapping[str, str]) -> Claims:
    """What reserved tags say, or a refusal that tells what is wrong with them."""
    try:
        return read_claims(tags)
    except ShardflowError as error:
        raise Refused(
            error.remedy,
            error.message,
            action=action,
            model=model,
            version=version,
            after=", ".join(tags),
            code=MALFORMED,
        ) from error


def claims_of_tag(model: str, version: int, key: str, value: str) -> Claims | Refused:
    """What a tag says that is to be set on a version; for one that a model's version cannot have, the refusal."""
    if makes_a_prompt(key):
        return misplaced(model, TAGGED, version)
    try:
        return checked_claims(model, version, TAGGED, {key: value})
    except Refused as refused:
        return refused


def born(db: Database, model: str, version: int, source: str, claims: Claims, actor: Actor, at: float) -> list[Event]:
    """Write what is known of a version that MLflow has just registered."""
    newborn = VersionFacts(model, version, Status.DRAFT, at, author=actor.name)
    put_facts(db, newborn, new=True)
    events = [Event(CREATED, model, actor, at, version, after=Status.DRAFT.value, evidence={"source": source})]
    origin = copied_from(source)
    if origin:
        made_from = [Edge(model, version, *origin, relation="copy")]
        add_edges(db, made_from)
        show_children(db, made_from)
        for known in statements_of(db, *origin):  # they are about the files, which are the same
            add_statement(db, replace(known, model=model, version=version))
    return [*events, *applied(db, Standing(newborn, "None", kept=True), claims, actor, at)]


def applied(db: Database, standing: Standing, claims: Claims, actor: Actor, at: float) -> list[Event]:
    """Write what reserved tags say about a version, except for a move."""
    model, version = standing.facts.model, standing.facts.version
    if not standing.kept:
        put_facts(db, standing.facts, new=True)
        write_tag(db, model, version, STATUS_TAG, standing.facts.status.value)
    if claims.semantic and claims.semantic != standing.facts.semantic:
        _number(db, standing.facts, claims.semantic)
    _descend(db, standing.facts, claims.edges(model, version))
    for handed in claims.statements:
        add_statement(db, Statement(model, version, handed.kind, handed.body, at))
    if claims.deployment:
        report = claims.deployment
        record(
            db,
            Deployment(
                report.target, model, version, report.at or at, report.outcome, actor.name, actor.verified, report.note
            ),
        )
    for key, value in claims.shown:
        write_tag(db, model, version, key, value)
    return [
        Event(TAGGED, model, actor, at, version, after=value[:LONGEST_SHOWN], evidence={"tag": key})
        for key, value in claims.shown
    ]


def _descend(db: Database, facts: VersionFacts, edges: Sequence[Edge]) -> None:
    """Note what a version was made from, all of which must be there."""
    for edge in edges:
        if edge.parent_version == OUTSIDE:
            continue
        known_as = name_with_version(db, edge.parent_model, edge.parent_version)
        if known_as is None or (known_as, edge.parent_version) == (facts.model, facts.version):
            raise _no_parent(
                facts, edge, "name a version that is registered, or one outside of the registry by its name alone"
            )
        if known_as != edge.parent_model:
            raise _no_parent(facts, edge, f"write {known_as}/{edge.parent_version}")
    add_edges(db, edges)
    show_children(db, edges)


def _no_parent(facts: VersionFacts, edge: Edge, remedy: str) -> Refused:
    parent = f"{edge.parent_model}/{edge.parent_version}"
    return Refused(
        remedy,
        f"{parent} cannot be a parent of {facts.model}/{facts.version}",
        action=TAGGED,
        model=facts.model,
        version=facts.version,
        after=parent,
        code=MALFORMED,
    )


def _number(db: Database, facts: VersionFacts, semantic: Semantic) -> None:
    """Give a version its semantic version, and the alias that goes with it."""
    owner = version_of_semantic(db, facts.model, semantic.text)
    if owner is not None and owner != facts.version:
        raise _unnumbered(
            facts, semantic, "choose another semantic version", f"{facts.model}/{owner} has {semantic.text}"
        )
    if facts.semantic and facts.status not in _STILL_OPEN:
        raise _unnumbered(
            facts,
            semantic,
            "register another version",
            f"{facts.model}/{facts.version} is {facts.semantic.text} and in {facts.status}, so others know it by that",
        )
    put_facts(db, replace(facts, semantic=semantic), new=False)
    if facts.semantic:
        remove_alias(db, facts.model, alias_of(facts.semantic))
    write_alias(db, facts.model, alias_of(semantic), facts.version)


def _unnumbered(facts: VersionFacts, semantic: Semantic, remedy: str, found: str) -> Refused:
    return Refused(
        remedy,
        found,
        action=TAGGED,
        model=facts.model,
        version=facts.version,
        before=facts.semantic.text if facts.semantic else None,
        after=semantic.text,
        code=CONFLICT,
    )
