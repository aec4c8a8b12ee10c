"""What a signature says about the files of a model, and what model-signing is told about those that are there.

Beside the SHA-256 of each file, which model-signing's own command computes, a signature by this package names what a
store holds for it: the digest of its chunks' names. Those names are checked whenever the file is read, while a digest
of the whole file in a store is no more than what its writer said. Other verifiers ignore the entry.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Self

import msgspec
from model_signing import hashing, manifest
from model_signing._hashing.hashing import Digest

from shardflow.registry.evidence_digests import BESIDE, Files, ModelFile

GIT_NOTES = frozenset({".gitattributes", ".gitignore"})
GIT = frozenset({".git", ".github", *GIT_NOTES})
"""What model-signing leaves out by itself, with all that is below. Of the notes this package's own entry tells."""

_ENTRY = "shardflow"
_UNLIKE = "00" * 32  # the digest of nothing


class Held(msgspec.Struct, frozen=True, omit_defaults=True):
    """One file of the model, as the signer saw it."""

    blake3: str
    chunks: str | None = None


@dataclass(frozen=True, slots=True)
class Said:
    """What a signature says, before anybody checked by whom it is."""

    bundle: bytes
    """The signature, written so that all who read it read the same."""
    sha256: Mapping[str, str]
    held: Mapping[str, Held]
    """Empty for a signature that another program made."""


class _Resource(msgspec.Struct, frozen=True):
    name: str
    digest: str


class _Serialization(msgspec.Struct, frozen=True):
    shardflow: dict[str, Held] = {}


class _Predicate(msgspec.Struct, frozen=True):
    resources: list[_Resource] = []
    serialization: _Serialization = _Serialization()


class _Payload(msgspec.Struct, frozen=True):
    predicate: _Predicate = _Predicate()


def read(signature: bytes) -> Said:
    """What a signature says; ValueError, KeyError, TypeError or RecursionError if it is none."""
    bundle = json.loads(signature)
    payload = base64.b64decode(bundle["dsseEnvelope"]["payload"])
    bundle["dsseEnvelope"]["payload"] = base64.b64encode(payload).decode()
    said = msgspec.convert(json.loads(payload), _Payload).predicate
    sha256 = {each.name: each.digest for each in said.resources}
    return Said(json.dumps(bundle).encode(), sha256, said.serialization.shardflow)


def agreeing(said: Said, files: Files) -> dict[str, str]:
    """The SHA-256 of files: computed where they were read, or else as the signature says it of what the store holds."""
    return {path: _agreeing(said, path, file) or _UNLIKE for path, file in files.items()}


def _agreeing(said: Said, path: str, file: ModelFile) -> str | None:
    if file.chunks is None:
        return file.sha256
    held = said.held.get(path)
    if held is None:
        return None  # nobody checks the SHA-256 that a writer noted
    same = held.chunks == file.chunks if held.chunks is not None else held.blake3 == file.blake3
    return said.sha256.get(path) if same else None


def uncoverable(files: Files) -> str | None:
    """A file that no signature is about."""
    return next((path for path in files if _first(path) in GIT and path not in GIT_NOTES), None)


def notes_unlike(said: Said, files: Files) -> list[str]:
    """Notes of git that are not those that the signer saw."""
    return [path for path in sorted(GIT_NOTES) if not _is_as_held(said.held.get(path), files.get(path))]


def _is_as_held(held: Held | None, file: ModelFile | None) -> bool:
    if held is None or file is None:
        return held is None and file is None
    both_in_stores = held.chunks is not None and file.chunks is not None
    return held.chunks == file.chunks if both_in_stores else held.blake3 == file.blake3


def _first(path: str) -> str:
    return PurePosixPath(path).parts[0]


class Told(hashing.Config):
    """Tells model-signing the digests of files, where it would read the files and compute them."""

    def __init__(self, sha256: Mapping[str, str], held: Mapping[str, Held] | None = None) -> None:
        super().__init__()
        self._sha256 = sha256
        self._held = held or {}

    def hash(self, model_path: Any, *, files_to_hash: Any = None) -> manifest.Manifest:
        del files_to_hash
        listed = {path: digest for path, digest in self._sha256.items() if _first(path) not in GIT}
        left_out = sorted({*BESIDE, *GIT} - {_first(path) for path in listed})
        kind = _Kind(
            {"method": "files", "hash_type": "sha256", "allow_symlinks": False, "ignore_paths": left_out},
            {path: msgspec.to_builtins(held) for path, held in self._held.items()},
        )
        items = [kind.new_item(path, Digest("sha256", bytes.fromhex(digest))) for path, digest in listed.items()]
        return manifest.Manifest(str(model_path), items, kind)

    def add_ignored_paths(self, **_: Any) -> None:
        """What a signature asks to be left out is not left out, unless it is what always is."""

    def set_allow_symlinks(self, allow_symlinks: bool) -> Self:  # noqa: ARG002  # stores have no links
        return self


class _Kind(manifest.SerializationType):
    """How model-signing lists whole files, with an entry more."""

    def __init__(self, arguments: dict[str, Any], entry: Mapping[str, Any]) -> None:
        self._files = manifest.SerializationType.from_args(arguments)
        self._entry = entry

    @property
    def serialization_parameters(self) -> dict[str, Any]:
        known: dict[str, Any] = self._files.serialization_parameters
        return {**known, _ENTRY: dict(self._entry)} if self._entry else known

    @classmethod
    def _from_args(cls, args: dict[str, Any]) -> Self:
        return cls(args, args.get(_ENTRY, {}))

    def new_item(self, name: str, digest: Any) -> manifest.ManifestItem:
        return self._files.new_item(name, digest)
