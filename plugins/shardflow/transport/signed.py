"""Conditional deletes by a signed URL: obstore's own delete takes no condition.

The condition's header is not part of what is signed, which S3 and Azure both allow.
"""

from __future__ import annotations

import re
from datetime import timedelta
from http import HTTPStatus
from http.client import HTTPException
from typing import TYPE_CHECKING
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import obstore

from shardflow.transport.answers import Answered
from shardflow.transport.errors import Interrupted
from shardflow.transport.limits import SILENCE_SECONDS

if TYPE_CHECKING:
    from ssl import SSLContext

    from obstore.store import AzureStore, S3Store

VALID_FOR = timedelta(minutes=5)


def signed_delete(store: S3Store | AzureStore, path: str, if_match: str, context: SSLContext | None = None) -> None:
    """Delete an object if it still has the ETag in `if_match`; Answered with status 412 if it does not."""
    url = obstore.sign(store, "DELETE", path, VALID_FOR)
    request = Request(url, method="DELETE", headers={"If-Match": if_match})  # noqa: S310  (made by obstore)
    try:
        with urlopen(request, timeout=SILENCE_SECONDS, context=context):  # noqa: S310
            pass
    except HTTPError as error:
        with error:
            code = re.search(rb"<Code>(\w+)</Code>", error.read(4096))
            if error.code != HTTPStatus.NOT_FOUND:
                raise Answered(error.code, code[1].decode() if code else "") from None
            raise FileNotFoundError(path) from None
    except (OSError, HTTPException) as error:
        raise Interrupted("connection failed") from error
