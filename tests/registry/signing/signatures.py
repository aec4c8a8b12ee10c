"""What the tests of signatures do again and again: sign a model, change it, and ask model-signing of it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from registry.logged import write
from shardflow.registry.evidence_digests import (
    files_of,
)
from shardflow.registry.keys import public_pem
from shardflow.registry.policy import TrustedKey
from shardflow.registry.signing import (
    signed,
    store_beside,
    with_key,
)
from shardflow.store.noted import noting_sha256
from shardflow.store.store import Store

if TYPE_CHECKING:
    pass


def trusted(path: Path, name: str = "ci") -> TrustedKey:
    return TrustedKey(name, name, public_pem(path))


def sign(location: str, key: Path) -> bytes:
    signature = signed("m", files_of(location), with_key(key))
    store_beside(location, "model.sig", signature)
    return signature


def put(location: str, name: str, content: bytes) -> None:
    with noting_sha256():
        write(location, name, content)


def fetched(location: str, target: Path, *, meta: bool = True) -> Path:
    store, path = Store.find(location)
    store.get(path, target)
    if meta:
        (target / "registered_model_meta").write_text("model_name: llama")  # as MLflow adds it
    return target


def stock(model: Path, public: Path) -> tuple[int, str]:
    """What model-signing's own command says."""
    command = [sys.executable, "-m", "model_signing", "verify", "key", str(model)]
    command += ["--signature", str(model / "model.sig"), "--public_key", str(public)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    return done.returncode, done.stdout + done.stderr
