"""Gives a stored file a second name: a new manifest over the same chunks, nothing is read or sent."""

from __future__ import annotations

import time
from array import array
from dataclasses import replace

from shardflow.dvc.lacking import lacking_in
from shardflow.store.catalog import Catalog
from shardflow.store.commit import Committer, Pending
from shardflow.store.store import Store


def give_name(store: Store, source: str, target: str) -> None:
    """Make `target` the same file as `source`. Packs that are set aside meanwhile are treated as in any put."""
    store.config.check("write", str(store.url))
    manifest = store.manifest(source)
    catalog = Catalog()
    rows = catalog.add_manifest(manifest)
    pending = Pending(
        target, replace(manifest, created=time.time()), array("I", (rows[row] for row in manifest.sequence.tolist()))
    )
    committer = Committer(
        store.transport.session(), catalog, store.config.settings.gc_grace_seconds, None, replace_files=True
    )
    try:
        committer.commit([pending])
        committer.drain()
    finally:
        committer.close()
    lacking_in(store).forget(target)
