"""A test aid that lets GCS clients run: Google's XML API, translated to S3 requests that a moto server answers.

It shows that our client side works (URLs, generations, preconditions, multipart uploads). It is no independent evidence
of how Google's servers behave: generations and preconditions are kept here, by us.
"""

from __future__ import annotations

import asyncio
import io
import time
from collections import defaultdict
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import quote

import aiohttp
from aiohttp import web
from yarl import URL

from services.loop_thread import LoopThread
from services.service import Service

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

PRECONDITION_FAILED = b"<?xml version='1.0'?><Error><Code>PreconditionFailed</Code></Error>"
METADATA, IN_S3 = "x-goog-meta-", "x-amz-meta-"
NOT_FORWARDED = {"host", "authorization", "connection", "transfer-encoding", "content-length", "date", "server"}


class Translator:
    """Answers the XML API out of a moto server, and numbers the generations of every object."""

    def __init__(self, moto_endpoint: str, session: aiohttp.ClientSession) -> None:
        self._moto = moto_endpoint
        self._session = session
        self._generations: dict[str, int] = {}
        self._writing: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def handle(self, request: web.Request) -> web.Response:
        """Any request: a change of an object, one part of an upload, a read or a listing."""
        if request.method in {"GET", "HEAD"}:
            return await self._read(request)
        if "uploads" in request.query or "partNumber" in request.query:
            return await self._forward(request)
        return await self._change(request)

    async def _read(self, request: web.Request) -> web.Response:
        key = request.path
        while True:
            generation = self._generations.get(key)
            response = await self._forward(request)
            if self._generations.get(key) == generation:  # else a write came between: read again
                return _with_generation(response, generation)

    async def _change(self, request: web.Request) -> web.Response:
        key = request.path
        wanted = request.headers.get("x-goog-if-generation-match")
        async with self._writing[key]:
            if wanted is not None and int(wanted) != self._generations.get(key, 0):
                await request.read()
                return web.Response(status=412, body=PRECONDITION_FAILED, content_type="application/xml")
            response = await self._forward(request)
            if response.status >= 300:
                return response
            if request.method == "DELETE":
                self._generations.pop(key, None)
                return response
            self._generations[key] = time.time_ns() // 1000
            return _with_generation(response, self._generations[key])

    async def _forward(self, request: web.Request) -> web.Response:
        # Google's clients encode the slashes of a key too; in S3's API they are part of the path.
        url = URL(f"{self._moto}{quote(request.path)}?{request.rel_url.raw_query_string}", encoded=True)
        headers = _forwarded(request.headers, METADATA, IN_S3)
        headers["Authorization"] = "AWS anyone:"  # moto looks only whether there is one
        body = await request.read()
        data = io.BytesIO(body) if body else None
        async with self._session.request(request.method, url, headers=headers, data=data) as answer:
            kept = _forwarded(answer.headers, IN_S3, METADATA)
            if request.method == "HEAD":
                kept["Content-Length"] = answer.headers.get("Content-Length", "0")
            return web.Response(status=answer.status, headers=kept, body=await answer.read())


@contextmanager
def running(moto: Service) -> Iterator[Service]:
    """The translation in a thread of this process, for as long as the context lasts."""
    with LoopThread("gcs-emulator") as loop:
        runner, session, port = loop.call(_serve(moto.endpoint))
        try:
            yield _service(f"http://127.0.0.1:{port}", moto)
        finally:
            loop.call(_close(runner, session))


async def _serve(moto_endpoint: str) -> tuple[web.AppRunner, aiohttp.ClientSession, int]:
    session = aiohttp.ClientSession(auto_decompress=False)
    app = web.Application(client_max_size=1 << 30)
    app.router.add_route("*", "/{path:.*}", Translator(moto_endpoint, session).handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    return runner, session, int(runner.addresses[0][1])


async def _close(runner: web.AppRunner, session: aiohttp.ClientSession) -> None:
    await runner.cleanup()
    await session.close()


def _service(endpoint: str, moto: Service) -> Service:
    return Service(
        name="gcs_emulator",
        backend="gs",
        endpoint=endpoint,
        options={"endpoint": endpoint},
        env={"STORAGE_EMULATOR_HOST": endpoint},
        make_bucket=moto.make_bucket,
        log=moto.log,
    )


def _forwarded(headers: Mapping[str, str], theirs: str, ours: str) -> dict[str, str]:
    """The headers that go on, with the names of metadata as the other side calls them."""
    named = {name.lower().replace(theirs, ours): value for name, value in headers.items()}
    return {name: value for name, value in named.items() if name not in NOT_FORWARDED}


def _with_generation(response: web.Response, generation: int | None) -> web.Response:
    if generation is not None and response.status < 300:
        response.headers["x-goog-generation"] = str(generation)
    return response
