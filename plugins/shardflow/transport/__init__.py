"""Object storage behind one small interface: local disk, S3, GCS, Azure and memory."""

from shardflow.transport.budget import ByteBudget
from shardflow.transport.cancel import Cancellation
from shardflow.transport.connection import durable
from shardflow.transport.errors import (
    AccessDenied,
    AlreadyThere,
    BucketMissing,
    Changed,
    ForkedAway,
    NameTaken,
    NoSpace,
    ObjectMissing,
    ReadOnlyTarget,
    TransportError,
    Truncated,
    Unreachable,
)
from shardflow.transport.forks import renewed_in_child
from shardflow.transport.info import NewObject, ObjectInfo
from shardflow.transport.limits import parallel_parts
from shardflow.transport.local_mapping import PAGE_BYTES, POPULATE_READ
from shardflow.transport.progress import Meter, Totals
from shardflow.transport.retry import RetryPolicy
from shardflow.transport.transport import Transport, connect
from shardflow.transport.url import StoreURL, WrongURL

__all__ = [
    "PAGE_BYTES",
    "POPULATE_READ",
    "AccessDenied",
    "AlreadyThere",
    "BucketMissing",
    "ByteBudget",
    "Cancellation",
    "Changed",
    "ForkedAway",
    "Meter",
    "NameTaken",
    "NewObject",
    "NoSpace",
    "ObjectInfo",
    "ObjectMissing",
    "ReadOnlyTarget",
    "RetryPolicy",
    "StoreURL",
    "Totals",
    "Transport",
    "TransportError",
    "Truncated",
    "Unreachable",
    "WrongURL",
    "connect",
    "durable",
    "parallel_parts",
    "renewed_in_child",
]
