"""Words that a client and the registry agree on; light, because the registry's store imports them with MLflow."""

from __future__ import annotations

import hashlib

STATEMENT_TAG = "shardflow.statement."
LINEAGE_FILTER = "shardflow.lineage"
EXPLAIN_FILTER = "shardflow.explain"
MOST_BYTES = 100_000  # of a tag's value, as MLflow allows


def tag_of(text: str) -> str:
    """The name of the tag for a statement."""
    return STATEMENT_TAG + hashlib.sha256(text.encode()).hexdigest()[:32]
