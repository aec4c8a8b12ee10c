"""What a stored file is made of, told from its manifest without where that lies."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given

from shardflow.store.errors import ManifestDamaged
from shardflow.store.manifest import Manifest, decode_contents, encode_manifest
from store.samples import flipped
from store.test_manifest import Body, body_of, example, manifests, sealed


@given(manifests())
def test_what_a_file_is_made_of_can_be_had_without_where_that_lies(manifest: Manifest) -> None:
    contents = decode_contents(encode_manifest(manifest), "some")
    assert (contents.kind, contents.size, contents.digest) == (manifest.kind, manifest.size, manifest.digest)
    assert (contents.sha256, contents.inline) == (manifest.sha256, manifest.inline)
    assert contents.names == b"".join(manifest.table.id(row) for row in manifest.sequence)


@pytest.mark.parametrize("lie", [{"sequence": np.uint32([9]).tobytes()}, {"chunk": b"short"}])
def test_contents_that_cannot_be_are_refused(lie: Body) -> None:
    with pytest.raises(ManifestDamaged, match="the manifest of some is not valid"):
        decode_contents(sealed(body_of(example()) | lie), "some")
    with pytest.raises(ManifestDamaged, match="fails its digest"):
        decode_contents(flipped(encode_manifest(example()), 500), "some")
