"""MLflow as the commands about registered models use it: without its log lines, and its errors told as ours."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from shardflow.errors import ShardflowError

MOST_RETRIES = "2"


class RegistryRefused(ShardflowError):
    """MLflow, or a server of it, said no."""


@contextmanager
def client() -> Iterator[Any]:
    """MLflow's client, by its own settings; what it refuses in this block ends the command with one line."""
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", MOST_RETRIES)
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # what ends a run would be in our JSON
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    logging.getLogger("mlflow").setLevel(logging.WARNING)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    try:
        yield MlflowClient()
    except MlflowException as error:
        raise RegistryRefused(" ".join(error.message.split())) from error
