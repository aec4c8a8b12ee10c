"""Storage for torch.distributed.checkpoint: states of any number of ranks, in a store, loaded into any other number.

dcp.save(state, storage_writer=shardflow.flavor.dcp.Writer("shardflow://s3/bucket/run/step-100"))
dcp.load(state, storage_reader=shardflow.flavor.dcp.Reader("shardflow://s3/bucket/run/step-100"))
"""

from shardflow.flavor.dcp.reader import Reader
from shardflow.flavor.dcp.writer import Writer

__all__ = ["Reader", "Writer"]
