"""A policy file as its author deals with it: written for the first time, checked, and given keys."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from shardflow.registry.actors import local_user
from shardflow.registry.identities import identity_signer
from shardflow.registry.keys import key_path, make_key, public_pem
from shardflow.registry.policy import Policy, PolicyUnreadable, default_text
from shardflow.registry.policy.finding import load_file
from shardflow.registry.tokens import token_uri


@dataclass(frozen=True, slots=True)
class OwnKey:
    """The key of this user as an entry below `keys:`."""

    person: str
    entry: str
    new_key: bool


def own_key() -> OwnKey:
    """The key of this user, made if there is none."""
    new = not (token_uri() or identity_signer() or key_path().exists())
    if new:
        make_key()
    person = local_user()
    body = "".join(f"      {line}\n" for line in public_pem().splitlines())
    return OwnKey(person, f"  {person}:\n    public: |\n{body}", new)


def write_policy(file: Path) -> OwnKey:
    """Write the default policy with this user's key in it; PolicyUnreadable if there is a file."""
    if os.path.lexists(file):
        raise PolicyUnreadable(f"{file} is there already", remedy="edit it, or name another file")
    own = own_key()
    text = default_text().replace("keys: {}\n", f"keys:\n{own.entry}")
    Policy.load(text, file.name)
    with file.open("x", encoding="utf-8") as target:
        target.write(text)
    return own


def checked_policy(file: Path) -> Policy:
    """The policy in a file; an error tells where it is wrong."""
    if not file.is_file():
        raise PolicyUnreadable(f"{file} is no file", remedy="name a policy, or write one with 'shardflow policy init'")
    return load_file(file)
