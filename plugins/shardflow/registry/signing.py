"""OpenSSF model signatures over the files of a model, from digests that the store has: no weights are read.

The package model-signing makes and checks the signatures; it is only told the digests instead of computing them. Its
own command accepts a model that was fetched: `model_signing verify key --signature model.sig --public_key ...`. That
command computes SHA-256 whatever a signature says, so those digests are signed, together with what the store holds
(`shardflow.registry.signing_contents`).
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from cryptography.exceptions import InvalidSignature
from model_signing import signing, verifying
from sigstore.errors import Error as SigstoreError

from shardflow.errors import ShardflowError
from shardflow.registry.evidence_digests import (
    SIGNATURE_FILE,
    Files,
    behind_server,
    joined,
    local_directory,
    store_of,
)
from shardflow.registry.identities import identity_signer, own_sigstore
from shardflow.registry.keys import key_path, password, private_key
from shardflow.registry.policy.rules import TrustedKey
from shardflow.registry.remembered import Remembered
from shardflow.registry.signing_contents import Held, Said, Told, agreeing, notes_unlike, read, uncoverable
from shardflow.registry.tokens import in_words, token_errors, token_uri
from shardflow.store.errors import PathMissing
from shardflow.transport.url import SCHEME

MOST_HOLDING = 10_000  # signatures that were found to hold
MOST_BYTES = 64 << 20  # of a signature: some hundred bytes for each file of the model

Sign = Callable[[signing.Config], signing.Config]
"""Chooses what signs: called with model-signing's configuration, it names a key there."""


class SignatureRefused(ShardflowError):
    """A signature that could not be made, or one that does not hold."""


@dataclass(frozen=True, slots=True)
class Checked:
    """Whose signature over a model's files holds; and if nobody's does, why."""

    by: tuple[str, ...]
    problem: str | None = None


def with_key(path: str | Path | None = None) -> Sign:
    """Sign with a key on disk, or with what else is named in its place: a key in hardware, or an identity."""
    by_identity = identity_signer(path)
    if by_identity:
        return without_key(ambient=by_identity.ambient)
    uri = token_uri(path)
    if uri:
        return with_token(uri)
    private_key(path)  # tells what is wrong with it better than model-signing does
    secret: Any = password()  # model-signing says that it wants a text, and hands it on to what wants bytes
    return lambda config: config.use_elliptic_key_signer(private_key=key_path(path), password=secret)


def with_token(uri: str, modules: Iterable[str] = ()) -> Sign:
    """Sign with a key in hardware, by its PKCS #11 URI."""

    def sign(config: signing.Config) -> signing.Config:
        with in_words(uri):
            return config.use_pkcs11_signer(pkcs11_uri=uri, module_paths=tuple(modules))

    return sign


def without_key(*, ambient: bool) -> Sign:
    """Sign with the identity that Sigstore finds out: that of the machine, or whoever signs in in a browser."""
    return lambda config: config.use_sigstore_signer(use_ambient_credentials=ambient, trust_config=own_sigstore())


def signed(name: str, files: Files, sign: Sign) -> bytes:
    """The signature over files whose SHA-256 are known, as it is kept in `model.sig`."""
    _require_signable(name, files)
    told = Told(
        {path: str(file.sha256) for path, file in files.items()},
        {path: Held(file.blake3, file.chunks) for path, file in files.items()},
    )
    with TemporaryDirectory(prefix="shardflow-") as directory:
        target = Path(directory) / SIGNATURE_FILE
        try:
            sign(signing.Config()).set_hashing_config(told).sign(name, target)
        except _what_fails() as error:
            raise SignatureRefused(
                f"{name} cannot be signed: {error}", remedy="check the key or the identity"
            ) from None
        return target.read_bytes()


def _require_signable(name: str, files: Files) -> None:
    if SIGNATURE_FILE in files:
        raise SignatureRefused(
            f"{name} has a file {SIGNATURE_FILE} of its own, where the signature would be",
            remedy="log the model with another name for that file",
        )
    left_out = uncoverable(files)
    if left_out is not None:
        raise SignatureRefused(f"{name} has a file {left_out}, which signatures leave out", remedy=_WITHOUT_GIT)


def _what_fails() -> tuple[type[Exception], ...]:
    return (RuntimeError, SigstoreError, *token_errors())


def checked(signature: bytes | None, files: Files, keys: Iterable[TrustedKey]) -> Checked:
    """Whose of these keys has signed exactly these files."""
    if signature is None:
        return Checked((), "the model is not signed")
    left_out = uncoverable(files)
    if left_out is not None:
        return Checked((), f"signatures leave out {left_out}: {_WITHOUT_GIT}")
    listed = repr(sorted(files.items())).encode()
    problems = {key.name: _problem_by(signature, files, listed, key) for key in keys}
    by = tuple(name for name, problem in problems.items() if problem is None)
    if by:
        return Checked(by)
    return Checked((), min(filter(None, problems.values()), key=_weight, default=_NOBODY))


def _problem_by(signature: bytes, files: Files, listed: bytes, key: TrustedKey) -> str | None:
    """Why the signature by this key does not hold; that it does is found out once for the same of all three.

    What an identity has signed is judged by the Sigstore of the moment.
    """

    def found() -> str | None:
        try:
            said = read(signature)
        except _MALFORMED:
            return "the signature cannot be read"
        return problem_with(said, files, key)

    if key.pem is None:
        return found()
    return _holding.of(found, signature, listed, key.pem.encode(), keep=lambda problem: problem is None)


def _weight(problem: str) -> int:
    """What says more of a signature comes first: that files changed, and only then that it is by somebody else."""
    return 2 if problem.startswith(_UNDECIDED) else int(problem == _NOBODY)


_holding = Remembered["str | None"](MOST_HOLDING)
_MALFORMED = (ValueError, KeyError, TypeError, AttributeError, RecursionError)
_NOBODY = "it is signed by a key that the policy does not name"
_UNDECIDED = "Sigstore cannot tell whether it holds"
_OTHER_FILES = "the files are not those that were signed"
_WITHOUT_GIT = "log the model without what is below .git and .github"
_UNREAD = "another program made the signature, so that only reading all files can tell whether it holds"
_NAMES = re.compile(
    r"(?:Hash mismatch for|(?:Extra files found|Missing files) in model [^:]*:) \\*'?(.+?)\\*['\"][:,\]]"
)


def problem_with(said: Said, files: Files, key: TrustedKey) -> str | None:
    """Why a signature by this key does not hold for these files; None if it does."""
    with TemporaryDirectory(prefix="shardflow-") as directory:
        place = Path(directory) / SIGNATURE_FILE
        place.write_bytes(said.bundle)
        try:
            config = _verifier(key, Path(directory)).set_hashing_config(Told(agreeing(said, files)))
            config.verify(Path(), place)
        except InvalidSignature:
            return "the signature was altered after it was made"
        except (SigstoreError, OSError) as error:
            return f"{_UNDECIDED}: {str(error)[:200]}"
        except _MALFORMED as error:
            problem = _in_words(str(error))
            by_another_program = not said.held and any(file.chunks for file in files.values())
            return _UNREAD if by_another_program and problem.startswith(_OTHER_FILES) else problem
    unlike = notes_unlike(said, files)
    if unlike and not said.held:
        return f"another program made the signature, which leaves out {', '.join(unlike)}"
    return f"{_OTHER_FILES}: {', '.join(unlike)}" if unlike else None


def stored_signature(location: str) -> bytes | None:
    """The signature beside the files of a model, if there is one."""
    location = behind_server(location)
    if location.startswith(f"{SCHEME}:"):
        store, root = store_of(location)
        try:
            manifest = store.manifest(joined(root, SIGNATURE_FILE))
            if manifest.inline is not None:
                return manifest.inline
            with store.open(joined(root, SIGNATURE_FILE)) as file:
                return file.read() if file.size <= MOST_BYTES else None
        except PathMissing:
            return None
    directory = local_directory(location)
    if directory is not None:
        place = directory / SIGNATURE_FILE
        return place.read_bytes() if place.is_file() and place.stat().st_size <= MOST_BYTES else None
    return _fetched(location)


def store_beside(location: str, name: str, content: bytes) -> None:
    """Put a small file beside the files of a model."""
    if location.startswith(f"{SCHEME}:"):
        store, root = store_of(location)
        store.put(io.BytesIO(content), joined(root, name), deltas=False)
        return
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository  # noqa: PLC0415

    with TemporaryDirectory(prefix="shardflow-") as directory:
        (Path(directory) / name).write_bytes(content)
        get_artifact_repository(location).log_artifact(str(Path(directory) / name))


def _verifier(key: TrustedKey, directory: Path) -> verifying.Config:
    config = verifying.Config()
    if key.pem is None:
        return config.use_sigstore_verifier(
            identity=str(key.identity), oidc_issuer=str(key.issuer), trust_config=own_sigstore()
        )
    public = directory / "key.pub"
    public.write_text(key.pem)
    return config.use_elliptic_key_verifier(public_key=public)


def _in_words(problem: str) -> str:
    if problem.startswith("Key mismatch"):
        return _NOBODY
    if problem.startswith("Signature mismatch"):
        names = _NAMES.findall(problem)
        return f"{_OTHER_FILES}: {', '.join(names[:3])}{' ...' * (len(names) > 3)}"
    return f"the signature cannot be read: {problem[:200]}"


def _fetched(location: str) -> bytes | None:
    from mlflow.exceptions import MlflowException  # noqa: PLC0415
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository  # noqa: PLC0415

    with TemporaryDirectory(prefix="shardflow-") as directory:
        try:
            get_artifact_repository(location).download_artifacts(SIGNATURE_FILE, dst_path=directory)
        except (MlflowException, OSError):
            return None
        return (Path(directory) / SIGNATURE_FILE).read_bytes()
