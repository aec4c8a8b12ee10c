"""Reads out of an obstore error what the server said, or why it said nothing.

obstore tells both only in the text of its message and of the debug dump below it, so this is the one place that reads
them; neither text ever reaches the user whole.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING

from obstore.exceptions import (
    AlreadyExistsError,
    PermissionDeniedError,
    PreconditionError,
    UnauthenticatedError,
)

from shardflow.transport.endpoint import without_secrets
from shardflow.transport.errors import (
    IT_CHANGED,
    IT_IS_THERE,
    AccessDenied,
    AlreadyThere,
    BucketMissing,
    Changed,
    Interrupted,
    ObjectMissing,
    TransportError,
)

if TYPE_CHECKING:
    from collections.abc import Callable


class Answered(Exception):
    """A server answered with something other than success to a request made without obstore."""

    def __init__(self, status: int, code: str) -> None:
        super().__init__(f"status: {status}, <Code>{code}</Code>")


@dataclass(frozen=True, slots=True)
class Rule:
    """One kind of failure: how to recognise it, what it is called, and what to tell the user."""

    applies: Callable[[Failure], bool]
    kind: type[TransportError]
    reason: str = ""
    """Empty: what the server said."""
    remedy: str = ""
    """Empty for AccessDenied: how credentials are set for the backend."""


class Failure:
    """An error of obstore's (or an Answered), taken apart."""

    def __init__(self, error: Exception) -> None:
        self.error = error
        self.text = str(error)
        # Before `inner:` stands the request, whose URL may hold any word that is looked for here.
        self.cause = self.text.partition("inner:")[2] or self.text.partition("Debug source:")[2] or self.text
        self.status = int(_found(r"status: (\d{3})", self.cause) or 0)
        self.code = _found(r"<Code>(\w+)</Code>", self.cause)
        self.server = without_secrets(_found(r"(https?://[^/\s?]+)", self.text))

    @property
    def busy(self) -> bool:
        """The server says that it cannot answer now."""
        broken = self.status >= 500 and self.status != HTTPStatus.NOT_IMPLEMENTED
        return broken or self.status in (408, 429) or self.code in _BUSY_CODES

    @property
    def refused(self) -> bool:
        """The server does not let us."""
        known = isinstance(self.error, (PermissionDeniedError, UnauthenticatedError))
        return known or self.status in (401, 403) or self.code in _CREDENTIAL_CODES

    @property
    def past_end(self) -> bool:
        """A range begins behind the end of the object."""
        return self.status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE or "StartTooLarge" in self.cause

    @property
    def dropped(self) -> str:
        """Why no answer came, or nothing if that was not it."""
        return next((reason for sign, reason in _DROPPED if re.search(sign, self.cause)), "")

    @property
    def said(self) -> str:
        """'503 Service Unavailable (SlowDown)', as far as it is known."""
        if not self.status:
            # An unforeseen message is cut to its start, and any URL's query with it: signatures live there.
            return re.sub(r"\?\S+", "?...", without_secrets(self.text.partition("\n")[0]))[:200]
        phrase = HTTPStatus(self.status).phrase if self.status in {*HTTPStatus} else ""
        return " ".join(filter(None, [str(self.status), phrase, f"({self.code})" if self.code else ""]))


# Codes that mean "later", whatever status they travel with (S3 sends RequestTimeout with 400).
_BUSY_CODES = {
    "ConditionalRequestConflict",
    "InternalError",  # S3 may send it with status 200, at the end of a multipart upload
    "OperationAborted",
    "RequestTimeout",
    "ServerBusy",
    "ServiceUnavailable",
    "SlowDown",
}
_NO_BUCKET_CODES = {"NoSuchBucket", "ContainerNotFound"}
_CREDENTIAL_CODES = {"ExpiredToken", "InvalidToken", "AuthenticationFailed", "InvalidAuthenticationInfo"}
_REGION_CODES = {"AuthorizationHeaderMalformed", "PermanentRedirect", "IllegalLocationConstraintException"}
_METADATA_SERVERS = ("169.254.169.254", "metadata.google.internal")

# What the dump says when no answer came, the most telling first.
_DROPPED = (
    ("ConnectionRefused", "connection refused"),
    ("dns error", "host name not found"),
    ("TimedOut", "timed out"),
    ("kind: Timeout", "timed out"),
    ("ConnectionReset", "connection reset"),
    ("BrokenPipe", "connection reset"),
    ("IncompleteMessage", "connection closed before an answer came"),
    ("IncompleteBody", "the answer broke off"),
    ("UnexpectedEof", "the answer broke off"),
    (r"InvalidXml\(\s*(Syntax|IllFormed\(\s*MissingEndTag)", "the answer broke off"),  # under a length that agrees
    ("reqwest::Error", "connection failed"),
)

RULES = (
    Rule(lambda it: it.busy, Interrupted),
    Rule(
        lambda it: it.code in _NO_BUCKET_CODES,
        BucketMissing,
        "there is no such bucket",
        "make it first, or correct the URL",
    ),
    Rule(
        lambda it: it.code in _REGION_CODES or "BareRedirect" in it.cause,
        TransportError,
        "the bucket lies in another region",
        "set AWS_REGION to it",
    ),
    Rule(lambda it: it.refused, AccessDenied),
    Rule(lambda it: isinstance(it.error, FileNotFoundError), ObjectMissing, "it is not there"),
    Rule(lambda it: isinstance(it.error, AlreadyExistsError), AlreadyThere, IT_IS_THERE),
    Rule(
        lambda it: isinstance(it.error, PreconditionError) or it.status == HTTPStatus.PRECONDITION_FAILED,
        Changed,
        IT_CHANGED,
    ),
    Rule(lambda it: bool(it.status), TransportError),
    Rule(
        lambda it: it.server.endswith(_METADATA_SERVERS),
        AccessDenied,
        "no credentials were found",
    ),
    Rule(
        lambda it: "Certificate" in it.cause or "UnknownIssuer" in it.cause,
        TransportError,
        "the server's certificate is not trusted",
        "check the endpoint; a certificate of one's own is named by the option ssl_verify=FILE, on S3",
    ),
    Rule(
        lambda it: "BadScheme" in it.cause,
        TransportError,
        "the endpoint is plain http",
        "set it to https, or allow http with the option allow_http=true",
    ),
    Rule(lambda it: bool(it.dropped), Interrupted),
    Rule(lambda _: True, TransportError),
)
"""The first that applies decides; from the answers that a server gave down to those that never came."""


def _found(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    return match[1] if match else ""
