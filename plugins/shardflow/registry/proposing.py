"""Proposes the semantic version of a model from what changed since the one before.

Only weights: a patch. Whoever calls the model can go on as before (more outputs, optional inputs, more tensors): minor.
Anything else: major. Tensors are compared by name, type and shape, from the heads of the files that hold them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from shardflow.dtype import DType
from shardflow.errors import ShardflowError
from shardflow.patch.files import opened
from shardflow.registry.evidence_digests import behind_server, local_directory, on_disk
from shardflow.registry.facts import Semantic
from shardflow.registry.references import Registered, versions_of
from shardflow.registry.versions import FIRST, Change, following, latest
from shardflow.transport.url import SCHEME

ONLY_WEIGHTS = "only weights changed"

Tensors = Mapping[str, tuple[str, tuple[int, ...]]]
_Fields = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Interface:
    """What others rely on in a model: its signature, and its tensors with their types and shapes."""

    signature: Mapping[str, Any]
    tensors: Tensors


@dataclass(frozen=True, slots=True)
class Proposal:
    """The next semantic version, and why it is that."""

    version: Semantic
    change: Change | None
    since: Semantic | None
    reason: str


def proposed(model: str, new: Interface, client: Any) -> Proposal:
    """The semantic version for a model that is to become the next version of a registered one."""
    numbered = {found.semantic: found for found in versions_of(model, client) if found.semantic}
    last = latest(numbered)
    if last is None:
        return Proposal(FIRST, None, None, f"{model} has no semantic versions yet")
    before = interface_of(_located(numbered[last], client))
    change, reason = difference(before, new)
    return Proposal(following(last, change), change, last, reason)


def difference(before: Interface, after: Interface) -> tuple[Change, str]:
    """How much two interfaces differ, and in what."""
    signature = _signatures(before.signature, after.signature)
    tensors = _tensors(before.tensors, after.tensors)
    order = [Change.PATCH, Change.MINOR, Change.MAJOR]
    return max(signature, tensors, key=lambda found: order.index(found[0]))


def interface_of(location: str) -> Interface:
    """The interface of a logged model, read from its MLmodel and the heads of its files."""
    location = behind_server(location)
    if location.startswith(f"{SCHEME}:") or local_directory(location) is not None:
        return _interface_at(location)
    with on_disk(location) as directory:
        return _interface_at(str(directory))


def _interface_at(location: str) -> Interface:
    place = local_directory(location)
    with opened(place if place is not None else location) as files:
        found = {file.name: file for file in files}
        described = found["MLmodel"].exactly(0, found["MLmodel"].size) if "MLmodel" in found else b""
        tensors = {
            segment.name: (_type(segment.dtype), segment.shape)
            for file in files
            for segment in (file.layout.segments if file.size else ())
            if segment.name
        }
    return Interface(signature_in(described), tensors)


def signature_in(mlmodel: bytes) -> dict[str, Any]:
    """The signature in a file MLmodel, as plain values; empty if it has none."""
    import json  # noqa: PLC0415

    import yaml  # noqa: PLC0415  # comes with MLflow, without which there are no logged models

    try:
        described = yaml.safe_load(mlmodel) or {}
        signature = described.get("signature") or {}
    except (yaml.YAMLError, AttributeError):
        raise ShardflowError("a file MLmodel cannot be read", remedy="log the model again") from None
    found: dict[str, Any] = {}
    for part in ("inputs", "outputs", "params"):
        with suppress(ValueError, TypeError):
            found[part] = json.loads(signature.get(part) or "[]")
    return found


def _signatures(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[Change, str]:
    changes = [
        _fields("input", before.get("inputs") or [], after.get("inputs") or []),
        _fields("output", before.get("outputs") or [], after.get("outputs") or []),
        _fields("parameter", before.get("params") or [], after.get("params") or []),
    ]
    major = next((found for found in changes if found[0] is Change.MAJOR), None)
    return major or next((found for found in changes if found[0] is Change.MINOR), (Change.PATCH, ONLY_WEIGHTS))


def _fields(kind: str, before: list[Any], after: list[Any]) -> tuple[Change, str]:
    """What became of the inputs, outputs or parameters. A new input that must be given breaks whoever calls."""
    was, now = _by_name(before), _by_name(after)
    if not was and now:
        return Change.MINOR, f"the model says now what its {kind}s are"
    broken = next(_broken(kind, was, now), None)
    if broken:
        return Change.MAJOR, broken
    new = [name for name in now if name not in was]
    return (Change.MINOR, f"there is another {kind}: {new[0]}") if new else (Change.PATCH, ONLY_WEIGHTS)


def _broken(kind: str, was: _Fields, now: _Fields) -> Iterator[str]:
    """Why somebody who called the model before cannot call it so any more."""
    for name, field in was.items():
        if name not in now:
            yield f"the {kind} {name} is gone"
        elif _type_of(field) != _type_of(now[name]):
            yield f"the {kind} {name} is of another type"
    if kind == "input":
        for name, field in now.items():
            if _must(field) and (name not in was or not _must(was[name])):
                yield f"the input {name} has to be given now"


def _by_name(fields: list[Any]) -> dict[str, Mapping[str, Any]]:
    return {str(field.get("name", position)): field for position, field in enumerate(fields) if isinstance(field, dict)}


def _must(field: Mapping[str, Any]) -> bool:
    return bool(field.get("required", True))


def _type_of(field: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in field.items() if key not in {"required", "default"}}


def _tensors(before: Tensors, after: Tensors) -> tuple[Change, str]:
    gone = [name for name in before if name not in after]
    if gone:
        return Change.MAJOR, f"the tensor {gone[0]} is gone"
    reshaped = [name for name in before if before[name][1] != after[name][1]]
    if reshaped:
        return Change.MAJOR, f"the tensor {reshaped[0]} has another shape"
    retyped = [name for name in before if before[name] != after[name]]
    if retyped:
        return Change.MINOR, f"the tensor {retyped[0]} is {after[retyped[0]][0]} now"
    if len(after) > len(before) and before:
        new = next(name for name in after if name not in before)
        return Change.MINOR, f"there is another tensor: {new}"
    return Change.PATCH, ONLY_WEIGHTS


def _type(dtype: DType) -> str:
    return dtype.name


def _located(found: Registered, client: Any) -> str:
    return str(client.get_model_version_download_uri(found.model, str(found.version)))
