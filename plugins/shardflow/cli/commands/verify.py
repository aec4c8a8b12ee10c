"""`shardflow verify`: check the signature of a model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from shardflow.cli.display import State, following
from shardflow.cli.named import NamedPath
from shardflow.cli.run import Run, json_option, quiet_option
from shardflow.cli.units import count

if TYPE_CHECKING:
    from shardflow.registry.evidence_digests import Files, ModelFile
    from shardflow.registry.policy import TrustedKey


@click.command("verify", short_help="Check the signature of a model.")
@click.argument("model", metavar="MODEL/VERSION|PATH|URL", type=NamedPath())
@click.option("--public-key", type=NamedPath(path_type=Path), help="The public key that must have signed it.")
@click.option("--policy", type=NamedPath(path_type=Path), help="A policy; any of its keys may have signed it.")
@click.option("--identity", help="Who must have signed it with Sigstore.")
@click.option("--issuer", metavar="URL", help="Who must have checked that identity.")
@click.option("--read", is_flag=True, help="Read all files and compute their digests, in a store too.")
@json_option
@quiet_option
@click.pass_obj
def command(
    run: Run,
    model: str,
    public_key: Path | None,
    policy: Path | None,
    identity: str | None,
    issuer: str | None,
    read: bool,
) -> None:
    """Check that the files of a model are those that somebody signed: a registered version, a directory, or a place in
    a store. Without more, your own key must have signed it. In a store nothing is read: the names of the chunks are
    compared, which every reader holds the data to. A signature that another program made needs --read there. Ends with
    exit code 1 if no signature holds.

    \b
    Examples:
      shardflow verify llama@production --policy shardflow-policy.yaml
      shardflow verify downloads/llama --public-key ci.pub
    """
    from shardflow.registry.evidence_digests import files_of
    from shardflow.registry.signing import checked, stored_signature

    keys = _keys(public_key, policy, identity, issuer)
    location = _location(model)
    files = files_of(location)
    if read:
        files = _read(run, location, files)
    found = checked(stored_signature(location), files, keys)
    document = {"model": model, "files": len(files), "signed_by": list(found.by), "problem": found.problem}
    if found.by:
        run.give(document, [f"{model}: {count(len(files), 'file')}, signed by {', '.join(found.by)}"])
        return
    if run.json:
        run.give(document, [])
        raise click.exceptions.Exit(1)
    from shardflow.registry.signing import SignatureRefused

    raise SignatureRefused(f"no signature of {model} holds: {found.problem}", remedy="do not use it")


def _read(run: Run, location: str, files: Files) -> dict[str, ModelFile]:
    """The files as their data is, whatever the store says of them."""
    from shardflow.registry.evidence_digests import read_through
    from shardflow.store.progress import Progress

    progress = Progress()
    progress.bytes_total = sum(file.size for file in files.values() if file.chunks)
    with following(lambda: State("reading", progress.bytes_done, progress.bytes_total), hidden=run.quiet):
        found = read_through(location, files, progress.add)
    return {path: replace(file, chunks=None) for path, file in found.items()}


def _keys(public_key: Path | None, policy: Path | None, identity: str | None, issuer: str | None) -> list[TrustedKey]:
    from shardflow.registry.keys import public_pem, read_public
    from shardflow.registry.policy import TrustedKey
    from shardflow.registry.policy_files import checked_policy

    if bool(identity) != bool(issuer):
        raise click.UsageError(
            "an --identity counts by whoever checked it: name the --issuer as well, and both or none"
        )
    keys = list(checked_policy(policy).keys.values()) if policy else []
    if public_key:
        keys.append(TrustedKey(public_key.name, public_key.name, read_public(public_key)))
    if identity:
        keys.append(TrustedKey(identity, identity, identity=identity, issuer=issuer))
    return keys or [TrustedKey("your key", "you", public_pem())]


def _location(model: str) -> str:
    if "://" in model or Path(model).is_dir():
        return model
    from shardflow.cli.registry import client
    from shardflow.registry.references import find

    with client() as mlflow:
        return find(model, mlflow).location
