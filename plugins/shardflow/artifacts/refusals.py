"""Tells MLflow what went wrong in a store, in its own exception, the remedy first: the UI shows it as it is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import (
    CANCELLED,
    DATA_LOSS,
    INTERNAL_ERROR,
    INVALID_PARAMETER_VALUE,
    PERMISSION_DENIED,
    RESOURCE_CONFLICT,
    RESOURCE_DOES_NOT_EXIST,
    TEMPORARILY_UNAVAILABLE,
)

from shardflow.errors import Cancelled, CorruptData, ShardflowError
from shardflow.store.errors import BadPath, PathMissing, PathTaken, SourceUnusable, StoreMissing
from shardflow.transport import AccessDenied, BucketMissing, ReadOnlyTarget, Unreachable, WrongURL

_CODES: tuple[tuple[tuple[type[ShardflowError], ...], int], ...] = (
    ((PathMissing, StoreMissing, BucketMissing), RESOURCE_DOES_NOT_EXIST),
    ((BadPath, WrongURL, SourceUnusable), INVALID_PARAMETER_VALUE),
    ((PathTaken,), RESOURCE_CONFLICT),
    ((AccessDenied, ReadOnlyTarget), PERMISSION_DENIED),
    ((CorruptData,), DATA_LOSS),
    ((Cancelled,), CANCELLED),
    ((Unreachable,), TEMPORARILY_UNAVAILABLE),
)


def refusal(error: ShardflowError) -> MlflowException:
    """The same failure as MLflow tells it."""
    code = next((code for kinds, code in _CODES if isinstance(error, kinds)), INTERNAL_ERROR)
    message = f"{error.remedy}: {error.message}" if error.remedy else error.message
    return MlflowException(message, error_code=code)


@contextmanager
def as_mlflow_tells() -> Iterator[None]:
    try:
        yield
    except ShardflowError as error:
        raise refusal(error) from error
