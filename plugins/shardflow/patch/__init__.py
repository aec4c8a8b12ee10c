"""Two versions side by side without a store between them: what differs, and a file that leads from one to the other."""

from shardflow.patch.applying import apply, check_chain, describe
from shardflow.patch.comparing import compare
from shardflow.patch.creating import create

__all__ = ["apply", "check_chain", "compare", "create", "describe"]
