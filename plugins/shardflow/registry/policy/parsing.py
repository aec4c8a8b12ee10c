"""Turns the text of a policy into its rules; what it does not understand it refuses, with the place."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from shardflow.registry.policy.reading import Place, read
from shardflow.registry.policy.requirements import (
    Approved,
    Better,
    Bound,
    Evaluated,
    Identified,
    Requirement,
    Signed,
    Stayed,
    Traced,
)
from shardflow.registry.policy.rules import Rule, Rules, TrustedKey
from shardflow.registry.terms import Status

STATUSES = tuple(status.value for status in Status)
LINEAGE = ("run", "code", "dataset", "parent")
CURVES = ("secp256r1", "secp384r1", "secp521r1")  # those that model-signing takes, too


def parsed(text: str, name: str) -> Rules:
    """The rules in a text; `name` is what errors call the file."""
    found = read(text, name).entries("keys", "groups", "rules")
    keys = {key: _key(key, at) for key, at in found["keys"].named().items()} if "keys" in found else {}
    groups = _groups(found["groups"], keys) if "groups" in found else {}
    if "rules" not in found:
        read(text, name).wrong("there are no rules", "write 'rules: []' to allow every move")
    rules = tuple(_rule(at, keys, groups) for at in found["rules"].items())
    return Rules(keys, groups, rules)


def _key(name: str, at: Place) -> TrustedKey:
    found = at.entries("public", "identity", "issuer", "person")
    person = found["person"].text() if "person" in found else name
    if "public" in found and ("identity" in found or "issuer" in found):
        at.wrong(f"{name!r} has a public key and an identity", "make them two keys")
    if "public" in found:
        return TrustedKey(name, person, pem=_pem(found["public"]))
    if "identity" not in found or "issuer" not in found:
        at.wrong(f"{name!r} is no key", "give it 'public', or 'identity' and 'issuer'")
    return TrustedKey(name, person, identity=found["identity"].text(), issuer=found["issuer"].text())


def _pem(at: Place) -> str:
    text = at.text()
    try:
        key = load_pem_public_key(text.encode())
    except (ValueError, UnsupportedAlgorithm):
        at.wrong("this is no public key", "paste what 'shardflow policy key' prints")
    if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name not in CURVES:
        at.wrong(
            "this is no elliptic key of a kind that can sign models", f"its curve must be one of {', '.join(CURVES)}"
        )
    return text


def _groups(at: Place, keys: Mapping[str, TrustedKey]) -> dict[str, frozenset[str]]:
    people = {key.person for key in keys.values()}
    groups = {}
    for name, members in at.named().items():
        if name in people:
            members.wrong(f"{name!r} is a person, too", "call the group something else")
        for member in members.items():
            if member.text() not in people:
                member.wrong(f"{member.text()!r} is nobody who has a key", "add a key of that person")
        groups[name] = frozenset(members.texts())
    return groups


def _rule(at: Place, keys: Mapping[str, TrustedKey], groups: Mapping[str, frozenset[str]]) -> Rule:
    found = at.entries("models", "to", "from", "require")
    for needed in ("to", "require"):
        if needed not in found:
            at.wrong(f"the rule has no {needed!r}", f"write {needed!r}")
    models = found["models"].texts() if "models" in found else ("*",)
    before = _statuses(found["from"]) if "from" in found else None
    requirements = tuple(_requirements(found["require"], keys, groups))
    return Rule(models, _statuses(found["to"]), before, requirements)


def _statuses(at: Place) -> frozenset[Status]:
    return frozenset(item.choice(Status, STATUSES) for item in at.items())


def _requirements(
    at: Place, keys: Mapping[str, TrustedKey], groups: Mapping[str, frozenset[str]]
) -> Iterator[Requirement]:
    known = ("metrics", "better_than_production", "evaluation", "approvals", "signature", "lineage", "time_in_status")
    found = at.entries(*known, "verified_identity")
    for name, value in found.items():
        match name:
            case "metrics":
                yield from (_bound(metric, each) for metric, each in value.named().items())
            case "better_than_production":
                yield from (_better(metric, each) for metric, each in value.named().items())
            case "approvals":
                yield _approved(value, keys, groups)
            case "lineage":
                yield _traced(value)
            case "time_in_status":
                yield Stayed(value.duration())
            case _:
                yield from _switched(name, value, keys)


def _switched(name: str, at: Place, keys: Mapping[str, TrustedKey]) -> Iterator[Requirement]:
    """What can be asked for by a mere `true`."""
    if at.is_truth():
        wanted = at.truth()
        if wanted and name == "evaluation":
            yield Evaluated()
        elif wanted and name == "signature":
            yield Signed()
        elif wanted:
            yield Identified()
    elif name == "evaluation":
        found = at.entries("suite", "by")
        yield Evaluated(found["suite"].text() if "suite" in found else None, _keys(found.get("by"), keys))
    elif name == "signature":
        yield Signed(_keys(at.entries("by").get("by"), keys))
    else:
        at.wrong(f"{name} is true or false")


def _bound(metric: str, at: Place) -> Bound:
    found = at.entries("at_least", "at_most")
    if not found:
        at.wrong(f"{metric!r} has no bound", "write at_least or at_most")
    limits = {name: value.number() for name, value in found.items()}
    if len(limits) == 2 and limits["at_least"] > limits["at_most"]:
        at.wrong(f"no value of {metric!r} is at least {limits['at_least']:g} and at most {limits['at_most']:g}")
    return Bound(metric, **limits)


def _better(metric: str, at: Place) -> Better:
    found = at.entries("by", "lower_is_better")
    by = found["by"].number() if "by" in found else 0.0
    if by < 0:
        found["by"].wrong("a margin is not negative", "write lower_is_better: true if less is better")
    return Better(metric, by, found["lower_is_better"].truth() if "lower_is_better" in found else False)


def _approved(at: Place, keys: Mapping[str, TrustedKey], groups: Mapping[str, frozenset[str]]) -> Approved:
    found = at.entries("count", "from", "not_author")
    count = found["count"].whole(1) if "count" in found else 1
    not_author = found["not_author"].truth() if "not_author" in found else True
    if "from" not in found:
        return Approved(count, not_author=not_author)
    people = frozenset[str]().union(*(_people(item, keys, groups) for item in found["from"].items()))
    if count > len(people):
        found["from"].wrong(f"{count} approvals cannot come from {len(people)} people", "name more, or ask for fewer")
    return Approved(count, people, found["from"].texts(), not_author)


def _people(at: Place, keys: Mapping[str, TrustedKey], groups: Mapping[str, frozenset[str]]) -> frozenset[str]:
    name = at.text()
    if name in groups:
        return groups[name]
    if name not in {key.person for key in keys.values()}:
        at.wrong(f"{name!r} is neither a group nor anybody who has a key", "add a key of that person")
    return frozenset({name})


def _keys(at: Place | None, keys: Mapping[str, TrustedKey]) -> frozenset[str] | None:
    if at is None:
        return None
    for item in at.items():
        if item.text() not in keys:
            item.wrong(f"there is no key {item.text()!r}", "add it under 'keys'")
    return frozenset(at.texts())


def _traced(at: Place) -> Traced:
    if at.is_truth():
        return Traced(frozenset(LINEAGE) if at.truth() else frozenset())
    return Traced(frozenset(item.choice(str, LINEAGE) for item in at.items()))
