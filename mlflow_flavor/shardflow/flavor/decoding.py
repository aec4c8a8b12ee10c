"""JSON that anybody may have written, decoded; whatever is wrong with it is one error, which whoever asked names."""

from __future__ import annotations

import json
from typing import Any, TypeVar

import msgspec

T = TypeVar("T")
_TOO_DEEP = "it nests too deeply"


class Undecodable(ValueError):
    """A document that is not what it should be."""


def decoded(data: bytes | msgspec.Raw, kind: type[T]) -> T:
    """A document of a kind; fields that the kind does not have are passed over."""
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise Undecodable(str(error)) from None
    except RecursionError:
        raise Undecodable(_TOO_DEEP) from None


def decoded_freely(data: bytes) -> Any:
    """A document of any kind, with NaN and Infinity, which JSON does not have and many configs do."""
    try:
        return json.loads(data)
    except ValueError as error:
        raise Undecodable(str(error)) from None
    except RecursionError:
        raise Undecodable(_TOO_DEEP) from None
