"""Versions whose move rests on evidence in files: in a store, signed as models are, with a signed evaluation."""

from __future__ import annotations

import random
import time
from collections.abc import Iterable

from mlflow.store.model_registry.dbmodels.models import SqlModelVersion
from sqlalchemy import update

import shardflow
from harness.places import Workspace
from shardflow.registry.evidence_digests import SIGNATURE_FILE, files_of
from shardflow.registry.evidence_statements import stated
from shardflow.registry.keys import make_key, public_pem, signer
from shardflow.registry.policy import default_text
from shardflow.registry.signing import signed, store_beside, with_key
from shardflow.registry.statements import Statement, add_statement
from shardflow.registry.store import ShardflowRegistryStore
from shardflow.store.noted import noting_sha256

FILES = 20
BYTES = 1 << 20
SUITE = "bench"
_VERSION = SqlModelVersion.__table__


def evidenced(space: Workspace, name: str, store: ShardflowRegistryStore, models: Iterable[str], version: int) -> str:
    """Give one version of each model files of its own, a signature and a verdict; by whose key, they are told."""
    home = space.path(name)
    home.mkdir()
    key = make_key(home / "key.pem")
    files = home / "model"
    files.mkdir()
    for number in range(FILES):
        (files / f"weights-{number:05}.safetensors").write_bytes(random.Random(number).randbytes(BYTES))
    kept = shardflow.init(str(home / "store"))
    for model in models:
        with noting_sha256():
            kept.put(files, model)
        hand_in(f"{kept.url}/{model}", store, model, version, key)
    return public_pem(key)


def hand_in(location: str, store: ShardflowRegistryStore, model: str, version: int, key: object) -> None:
    """All that the registry will look at, put there past its gate."""
    found = files_of(location)
    store_beside(location, SIGNATURE_FILE, signed(model, found, with_key(str(key))))
    verdict = {"suite": SUITE, "result": "PASSED", "at": time.time()}
    text = stated("verdict", model, found, verdict, signer(str(key)))
    where = (_VERSION.c.name == model, _VERSION.c.version == version)
    with store.engine.begin() as db:
        add_statement(db, Statement(model, version, "verdict", text.encode(), time.time()))
        db.execute(update(_VERSION).where(*where).values(source=location, storage_location=location))


def policy(pem: str) -> str:
    """It asks for both."""
    needed = "{evaluation: {suite: bench, by: bench}, signature: {by: bench}}"
    return f"{_keys(pem)}rules: [{{to: production, require: {needed}}}]\n"


def shipped(pem: str) -> str:
    """What `shardflow policy init` writes."""
    return default_text().replace("keys: {}\n", _keys(pem))


def _keys(pem: str) -> str:
    body = "".join(f"      {line}\n" for line in pem.splitlines())
    return f"keys:\n  bench:\n    public: |\n{body}"
