"""Addresses of servers, as users set them: what is none is refused, and nothing secret in one gets into an error."""

from __future__ import annotations

import re

from shardflow.errors import ShardflowError, without_passwords

MOST_PORT = 65535

_ADDRESS = re.compile(
    r"https?://"
    r"(?:[\w.~!$&'()*+,;=:@%-]*@)?"
    r"(?:[\w.-]+|\[[0-9a-f:.]+\])"
    r"(?::(?P<port>\d{0,5}))?"
    r"(?:/[\w.~!$&'()*+,;=:@%/-]*)?"
    r"(?:[?#][!-~]*)?",
    re.ASCII | re.IGNORECASE,
)
_QUERY = re.compile(r"(://[^\s?]*)\?\S*")  # it may be what signs requests


def checked_endpoint(text: str) -> str:
    """The same text, or none: clients that are made of anything else panic over it, in their first request."""
    match = _ADDRESS.fullmatch(text)
    if text and (match is None or int(match["port"] or 0) > MOST_PORT):
        # Of what is malformed nobody can say where a password ends.
        which = "with an '@' in it" if "@" in text else repr(text.partition("?")[0])
        raise ShardflowError(
            f"the endpoint {which} is no address of a server", remedy="write it as http://host:9000 or https://host"
        )
    return text


def without_secrets(text: str) -> str:
    """A text as errors may repeat it: the URLs in it lose their user, their password and their query."""
    return _QUERY.sub(r"\1", without_passwords(text))
