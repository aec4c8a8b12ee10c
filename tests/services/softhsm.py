"""A key in hardware, as SoftHSM plays it: Debian's package softhsm2. The key is made outside and put into a token."""

from __future__ import annotations

import os
import shutil
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

MODULES = ("/usr/lib/softhsm", "/usr/lib64/pkcs11", "/usr/lib/pkcs11", "/usr/local/lib/softhsm")
PIN = "1234"


@dataclass(frozen=True, slots=True)
class Token:
    """A token with one elliptic key in it."""

    uri: str
    modules: str
    public: Path
    config: Path
    """What SOFTHSM2_CONF has to name, where the token is used."""


def missing() -> str | None:
    """Why there can be no token here; None if there can."""
    absent = [program for program in ("softhsm2-util", "openssl") if not shutil.which(program)]
    if absent or _modules() is None:
        return f"not installed ({', '.join(absent) or 'libsofthsm2.so'}); 'make services' installs it"
    return None if find_spec("PyKCS11") else "not installed (PyKCS11); pip install 'model-signing[pkcs11]'"


@contextmanager
def running(home: Path) -> Iterator[Token]:
    """A new token below a directory."""
    config, private, public = home / "softhsm2.conf", home / "key.pem", home / "key.pub"
    (home / "data").mkdir()
    config.write_text(f"directories.tokendir = {home / 'data'}\nobjectstore.backend = file\nlog.level = ERROR\n")
    make = ["openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", str(private)]
    _run(config, *make)
    _run(config, "openssl", "pkey", "-in", str(private), "-pubout", "-out", str(public))
    token = ("--label", "models", "--pin", PIN, "--so-pin", "4321")
    _run(config, "softhsm2-util", "--init-token", "--free", *token)
    _run(config, "softhsm2-util", "--import", str(private), "--token", "models", "--label", "ci", "--id", "a1",
         "--pin", PIN)  # fmt: skip
    private.unlink()
    uri = f"pkcs11:token=models;object=ci?module-name=softhsm2&pin-value={PIN}"
    yield Token(uri, str(_modules()), public, config)


def _modules() -> str | None:
    return next((place for place in MODULES if (Path(place) / "libsofthsm2.so").exists()), None)


def _run(config: Path, *command: str) -> None:
    environment = {**os.environ, "SOFTHSM2_CONF": str(config)}
    subprocess.run(command, check=True, capture_output=True, env=environment, timeout=60)
