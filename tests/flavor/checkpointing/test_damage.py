from __future__ import annotations

import pytest

from flavor.checkpointing.samples import same, state
from shardflow.flavor.checkpointing import AsyncCheckpointer, files
from shardflow.flavor.checkpointing.errors import (
    CheckpointDamaged,
)
from shardflow.flavor.checkpointing.steps import MARKER_FILE
from shardflow.flavor.errors import CheckpointUnusable
from shardflow.store.store import Store


def test_a_step_whose_files_were_removed_or_replaced_is_not_loaded(url: str, store: Store) -> None:
    with AsyncCheckpointer(url) as checkpoints:
        for step in (1, 2, 3):
            checkpoints.save(step, state(step))
        checkpoints.wait()
        store.rm("run/step-1/state.safetensors")
        with pytest.raises(CheckpointDamaged, match=r"step 1 of .* has lost state.safetensors; load another"):
            checkpoints.load(1)
        files.put_text(store, "run/step-2/tree.json", b"{}")
        with pytest.raises(CheckpointDamaged, match=r"step 2 of .* has another tree.json"):
            checkpoints.load(2)
        assert same(checkpoints.load(), state(3))


@pytest.mark.parametrize(
    "marker",
    [
        b"[]",
        b'{"step": 2, "saved": 1.0, "files": [{"name": "../x", "size": 1, "digest": ""}]}',
        b'{"step": 2, "saved": 1.0, "files": [], "directory": "../elsewhere"}',
        b'{"step": 2, "saved": 1.0, "files": [], "format": 9}',
        b'{"step": 2, "saved": 1.0, "files": [], "directory": "\xff"}',
        b'{"step": 2, "saved": 1.0, "files": [], "more": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    ],
)
def test_a_marker_that_was_tampered_with_makes_no_step(url: str, store: Store, marker: bytes) -> None:
    with AsyncCheckpointer(url) as checkpoints:
        checkpoints.save(1, state(1))
        checkpoints.wait()
        files.put_text(store, f"run/step-2/{MARKER_FILE}", marker)
        assert checkpoints.latest() == 1
        with pytest.raises(CheckpointUnusable):
            checkpoints.load(2)
        checkpoints.save(2, state(2))
        checkpoints.wait()
        assert same(checkpoints.load(), state(2))
