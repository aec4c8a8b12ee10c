"""A small S3 server that misbehaves as it is told: for proofs of what is retried, how often, and what is not."""

from __future__ import annotations

import hashlib
import re
import socket
import struct
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, unquote, urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from email.message import Message
    from ssl import SSLContext


@dataclass(frozen=True, slots=True)
class Fault:
    """What to do in place of answering as S3 would."""

    kind: str
    """status, reset, lost, short, stall, or none."""
    status: int = 0
    code: str = ""
    hook: Callable[[], None] | None = None
    """Called before anything else: what another client does meanwhile."""


def status(number: int, code: str = "") -> Fault:
    """Answer with a failure."""
    return Fault("status", number, code)


RESET = Fault("reset")
"""Close the connection before anything was done."""
LOST = Fault("lost")
"""Do what was asked for, then close the connection without an answer."""
SHORT = Fault("short")
"""Announce the whole body, send half of it."""
STALL = Fault("stall")
"""Take the request and never answer."""
NONE = Fault("none")
"""Behave; good for its hook."""


def meanwhile(hook: Callable[[], None], fault: Fault) -> Fault:
    """The fault, with something done by another client first."""
    return Fault(fault.kind, fault.status, fault.code, hook)


@dataclass
class Stored:
    data: bytes
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def etag(self) -> str:
        return hashlib.md5(self.data).hexdigest()


class ScriptedS3:
    """The server's state: objects, what was asked of it, and the faults still to come."""

    def __init__(self, port: int, scheme: str) -> None:
        self.endpoint = f"{scheme}://127.0.0.1:{port}"
        self.objects: dict[str, Stored] = {}
        self.uploads: dict[str, dict[int, bytes]] = {}
        self.requests: list[str] = []
        """METHOD key, in the order of arrival; `METHOD key?query` where there is a query that counts."""
        self.authorizations: list[str] = []
        self.body_hashes: list[str] = []
        """What each signature says of the body."""
        self.compares_before_deleting = True
        self.released = threading.Event()
        self._faults: list[tuple[str, Fault]] = []
        self._lock = threading.Lock()

    def next(self, pattern: str, *faults: Fault) -> None:
        """Meet the next requests that match `pattern` (as in `requests`) with these faults, one each."""
        self._faults += [(pattern, fault) for fault in faults]

    def asked(self, pattern: str) -> list[str]:
        """The requests so far that match."""
        return [request for request in self.requests if re.search(pattern, request)]

    @property
    def unmet(self) -> int:
        """Faults that no request has met yet."""
        return len(self._faults)

    def arrived(self, request: str, headers: Message) -> Fault | None:
        """Note a request, and take the fault it meets."""
        with self._lock:
            self.requests.append(request)
            self.authorizations.append(headers.get("Authorization", ""))
            self.body_hashes.append(headers.get("x-amz-content-sha256", ""))
            for place, (pattern, fault) in enumerate(self._faults):
                if re.search(pattern, request):
                    del self._faults[place]
                    return fault
        return None


@contextmanager
def scripted_s3(tls: SSLContext | None = None) -> Iterator[ScriptedS3]:
    """A server for as long as the context lasts; any bucket exists."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    if tls:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    scheme = "https" if tls else "http"
    state = _Handler.states[server.server_port] = ScriptedS3(server.server_port, scheme)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield state
    finally:
        state.released.set()
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    states: dict[int, ScriptedS3] = {}  # noqa: RUF012  (one entry a server, by its port)
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""

    def handle_request(self) -> None:
        self.state = self.states[self.server.server_address[1]]
        parts = urlsplit(self.path)
        self.query = {name: values[0] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
        self.key = unquote(parts.path).removeprefix("/bkt").removeprefix("/")
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        counted = "&".join(name for name in ("uploads", "uploadId", "partNumber", "list-type") if name in self.query)
        request = f"{self.command} {self.key}" + (f"?{counted}" if counted else "")
        fault = self.state.arrived(request, self.headers)
        if fault and fault.hook:
            fault.hook()
        self.misbehave(fault) if fault else self.behave()

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = handle_request  # noqa: N815

    def misbehave(self, fault: Fault) -> None:
        if fault.kind == "none":
            self.behave()
        elif fault.kind == "status":
            self.answer(fault.status, f"<Error><Code>{fault.code}</Code></Error>".encode() if fault.code else b"")
        elif fault.kind == "short":
            self.behave(cut=True)
        else:
            if fault.kind == "lost":
                self.wfile, kept = _Nowhere(), self.wfile
                self.behave()
                self.wfile = kept
            elif fault.kind == "stall":
                self.state.released.wait(30)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close_connection = True

    def behave(self, *, cut: bool = False) -> None:
        if self.command in ("GET", "HEAD"):
            self.list() if "list-type" in self.query else self.get(cut=cut)
        elif self.command == "PUT":
            self.put_part() if "uploadId" in self.query else self.put()
        elif self.command == "POST":
            self.complete() if "uploadId" in self.query else self.start_upload()
        elif "uploadId" in self.query:
            self.state.uploads.pop(self.query["uploadId"], None)
            self.answer(204)
        else:
            self.delete()

    def get(self, *, cut: bool) -> None:
        stored = self.state.objects.get(self.key)
        if stored is None:
            self.answer(404, b"<Error><Code>NoSuchKey</Code></Error>")
            return
        data, code, headers = stored.data, 200, dict(stored.headers)
        if wanted := re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", "")):
            start, end = int(wanted[1]), min(int(wanted[2]) + 1, len(data))
            if start >= len(data):
                self.answer(416, b"<Error><Code>InvalidRange</Code></Error>")
                return
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{len(data)}"
            data, code = data[start:end], 206
        self.answer(code, data, {"ETag": f'"{stored.etag}"', **headers}, cut=cut)

    def put(self) -> None:
        present = self.state.objects.get(self.key)
        if self.headers.get("If-None-Match") == "*" and present:
            self.answer(412, b"<Error><Code>PreconditionFailed</Code></Error>")
            return
        wanted = self.headers.get("If-Match")
        if wanted and (present is None or wanted.strip('"') != present.etag):
            self.answer(412, b"<Error><Code>PreconditionFailed</Code></Error>")
            return
        kept = {name: value for name, value in self.headers.items() if name.lower().startswith("x-amz-meta-")}
        stored = self.state.objects[self.key] = Stored(self.body, kept)
        self.answer(200, b"", {"ETag": f'"{stored.etag}"'})

    def start_upload(self) -> None:
        upload = f"upload-{len(self.state.uploads)}"
        self.state.uploads[upload] = {}
        self.answer_xml(f"<InitiateMultipartUploadResult><UploadId>{upload}</UploadId></InitiateMultipartUploadResult>")

    def put_part(self) -> None:
        self.state.uploads[self.query["uploadId"]][int(self.query["partNumber"])] = self.body
        self.answer(200, b"", {"ETag": f'"{hashlib.md5(self.body).hexdigest()}"'})

    def complete(self) -> None:
        parts = self.state.uploads.pop(self.query["uploadId"], None)
        if parts is None:
            self.answer(404, b"<Error><Code>NoSuchUpload</Code></Error>")
            return
        stored = self.state.objects[self.key] = Stored(b"".join(parts[number] for number in sorted(parts)))
        self.answer_xml(
            "<CompleteMultipartUploadResult><Location>here</Location><Bucket>bkt</Bucket>"
            f'<Key>{self.key}</Key><ETag>"{stored.etag}"</ETag></CompleteMultipartUploadResult>'
        )

    def delete(self) -> None:
        present = self.state.objects.get(self.key)
        wanted = self.headers.get("If-Match")
        obeyed = self.state.compares_before_deleting
        if obeyed and wanted and present and wanted.strip('"') != present.etag:
            self.answer(412, b"<Error><Code>PreconditionFailed</Code></Error>")
            return
        self.state.objects.pop(self.key, None)
        self.answer(204)

    def list(self) -> None:
        after = self.query.get("continuation-token") or self.query.get("start-after", "")
        prefix = self.query.get("prefix", "")
        keys = [key for key in sorted(self.state.objects) if key.startswith(prefix) and key > after]
        page, more = keys[:1000], len(keys) > 1000
        entries = "".join(
            f"<Contents><Key>{key}</Key><Size>{len(self.state.objects[key].data)}</Size>"
            f"<LastModified>2026-01-01T00:00:00.000Z</LastModified><ETag>{self.state.objects[key].etag}</ETag></Contents>"
            for key in page
        )
        token = f"<NextContinuationToken>{page[-1]}</NextContinuationToken>" if more else ""
        self.answer_xml(
            f"<ListBucketResult><IsTruncated>{str(more).lower()}</IsTruncated>{token}{entries}</ListBucketResult>"
        )

    def answer_xml(self, text: str) -> None:
        self.answer(200, text.encode(), {"Content-Type": "application/xml"})

    def answer(self, code: int, body: bytes = b"", headers: dict[str, str] | None = None, *, cut: bool = False) -> None:
        self.send_response(code)
        if code != 204:
            self.send_header("Content-Length", str(len(body)))
        self.send_header("Last-Modified", formatdate(usegmt=True))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[: len(body) // 2] if cut else body)
        self.wfile.flush()
        if cut:
            self.close_connection = True


class _Nowhere:
    """Swallows an answer that is not to be sent."""

    def write(self, data: bytes) -> int:
        return len(data)

    def flush(self) -> None:
        pass
