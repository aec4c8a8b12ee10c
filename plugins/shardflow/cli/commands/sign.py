"""`shardflow sign`: sign the files of a registered model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from shardflow.cli.display import State, following
from shardflow.cli.named import NamedPath
from shardflow.cli.run import Run, json_option, quiet_option
from shardflow.cli.units import count, size

if TYPE_CHECKING:
    from shardflow.registry.evidence_digests import Files
    from shardflow.registry.signing import Sign


@click.command("sign", short_help="Sign the files of a registered model.")
@click.argument("version", metavar="MODEL/VERSION")
@click.option("--key", type=NamedPath(path_type=Path), help="The private key, in place of SHARDFLOW_KEY's.")
@click.option("--pkcs11", metavar="URI", help="A key in hardware, by its PKCS #11 URI.")
@click.option("--module", multiple=True, type=NamedPath(), help="A directory of PKCS #11 modules; may be repeated.")
@click.option("--keyless", is_flag=True, help="Sign in with Sigstore, in a browser.")
@click.option("--ambient", is_flag=True, help="Sign with Sigstore, as the identity that this machine has.")
@click.option("--read", is_flag=True, help="Read all files, and trust no digest that a writer noted.")
@json_option
@quiet_option
@click.pass_obj
def command(
    run: Run,
    version: str,
    key: Path | None,
    pkcs11: str | None,
    module: tuple[str, ...],
    keyless: bool,
    ambient: bool,
    read: bool,
) -> None:
    """Sign all files of a version as OpenSSF's model-signing does, and keep the signature beside them as model.sig.

    The digests are those that the store has; no weights are read, except those of files whose SHA-256 nobody noted
    when they were stored (it is noted with SHARDFLOW_SHA256=1 set, and by 'shardflow publish'). Who does not trust all
    who may write to the store signs with --read. Another signature of the model is replaced.

    Whoever fetches the model can check it without Shardflow:
    model_signing verify key MODEL --signature MODEL/model.sig --public_key KEY

    \b
    Examples:
      shardflow sign llama/3
      shardflow sign llama@1.4.2 --key ci.pem
      shardflow sign llama/3 --ambient
    """
    from shardflow.cli.registry import client
    from shardflow.registry.evidence_digests import SIGNATURE_FILE, files_of
    from shardflow.registry.references import find
    from shardflow.registry.signing import signed, store_beside

    sign = _sign(key, pkcs11, module, keyless=keyless, ambient=ambient)
    with client() as mlflow:
        found = find(version, mlflow)
        files, read_bytes = _digests(run, found.location, files_of(found.location), everything=read)
        store_beside(found.location, SIGNATURE_FILE, signed(found.model, files, sign))
    lines = [f"signed {found.title}: {count(len(files), 'file')}"]
    if read_bytes:
        why = "to check the digests of the store" if read else "whose SHA-256 was not noted; it is now"
        lines.append(f"  read {size(read_bytes)} {why}")
    run.give({"version": found.name, "files": len(files), "bytes_read": read_bytes}, lines)


def _digests(run: Run, location: str, files: Files, *, everything: bool) -> tuple[Files, int]:
    """The files with all that is signed, and how much was read for it."""
    from shardflow.registry.evidence_digests import read_through, with_sha256
    from shardflow.store.progress import Progress

    progress = Progress()
    progress.bytes_total = sum(file.size for file in files.values() if file.chunks and (everything or not file.sha256))
    with following(
        lambda: State("reading", progress.bytes_done, progress.bytes_total),
        hidden=run.quiet or not progress.bytes_total,
    ):
        found = (read_through if everything else with_sha256)(location, files, progress.add)
    return found, progress.bytes_done


def _sign(key: Path | None, pkcs11: str | None, modules: tuple[str, ...], *, keyless: bool, ambient: bool) -> Sign:
    from shardflow.registry.signing import with_key, with_token, without_key

    if sum(map(bool, (key, pkcs11, keyless, ambient))) > 1:
        raise click.UsageError("--key, --pkcs11, --keyless and --ambient are different ways to sign: name one")
    if pkcs11:
        return with_token(pkcs11, modules)
    if keyless or ambient:
        return without_key(ambient=ambient)
    return with_key(key)
