"""The broker itself: one request a connection, read strictly, decided by the policy, handed on to the engine.

A client's connection ends with its answer, so that nothing can be smuggled behind a request that was allowed. Answers
of the engine are passed on as they come; what a client sends after its request goes nowhere.
"""

from __future__ import annotations

import asyncio
import json
import logging
import socket
from collections.abc import Mapping
from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Any

import h11

from evergreen.broker.engine import CHUNK, Engine, head_of
from evergreen.broker.images import Images
from evergreen.broker.orphans import Orphans
from evergreen.broker.policy import own_labels, review_create
from evergreen.broker.refusal import RefusedError, Rule, shown
from evergreen.broker.reports import Reports
from evergreen.broker.routes import Route, find_route, image_filter, own_filters
from evergreen.errors import PlatformError
from evergreen.settings.broker import BrokerSettings

LOG = logging.getLogger(__name__)

_MOST_HEAD_BYTES = 16_384
_MOST_CONNECTIONS = 256
_REQUEST_SECONDS = 10.0
# A worker whose machine died sends no goodbye: it is missed after 15 + 3 * 5 seconds of silence, or when what it was
# sent (its trainer's output) stays without an answer for 30 seconds.
_KEEPALIVE = (
    (socket.TCP_KEEPIDLE, 15),
    (socket.TCP_KEEPINTVL, 5),
    (socket.TCP_KEEPCNT, 3),
    (socket.TCP_USER_TIMEOUT, 30_000),
)


@dataclass(frozen=True)
class Request:
    """A client's request, whole."""

    line: str
    route: Route
    body: bytes
    upgrade: bool


class Broker:
    """Serves workers.

    Args:
        settings: the policy's limits.
        reports: takes what is refused.
    """

    def __init__(self, settings: BrokerSettings, reports: Reports) -> None:
        self._settings = settings
        self._reports = reports
        self._engine = Engine(settings.socket)
        self._images = Images(self._engine, settings.images)
        self._orphans = Orphans(self._engine, settings, reports.ended)
        self._creating = asyncio.Lock()
        self._connections = 0
        self._stopping = False

    async def start(self) -> asyncio.Server:
        """Pins the images, adopts running containers, and listens.

        Raises:
            PlatformError: the engine does not answer.
        """
        await self._images.pin()
        await self._orphans.adopt()
        return await asyncio.start_server(self._serve, self._settings.host, self._settings.port)

    async def run(self, server: asyncio.Server) -> None:
        """Serves until it is cancelled; then containers are ended, and what was not yet reported is reported."""
        try:
            async with server, asyncio.TaskGroup() as tasks:
                tasks.create_task(self._orphans.run())
                tasks.create_task(self._reports.run())
        finally:
            async with self._creating:  # a container that is being made is seen afterwards, and none is made any more
                self._stopping = True
                await self._orphans.end_all()
            await self._reports.flush()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections += 1
        try:
            with suppress(ConnectionError, TimeoutError):
                await self._answer(reader, writer)
        finally:
            self._connections -= 1
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        _keep_alive(writer)
        if self._connections > _MOST_CONNECTIONS:
            await _send(writer, 503, {"message": f"more than {_MOST_CONNECTIONS} connections: try again"})
            return
        line = ["(no request)"]
        try:
            async with asyncio.timeout(_REQUEST_SECONDS):
                request = await read_request(reader, self._settings.max_body_bytes, line)
            if request is not None:
                await self._handle(request, reader, writer)
        except RefusedError as refusal:
            peer = writer.get_extra_info("peername")
            self._reports.refused(refusal, line[0], peer[0] if peer else "unknown")
            await _send(writer, 403, {"message": str(refusal)})
        except PlatformError as error:
            LOG.warning("%s", error)
            await _send(writer, 502, {"message": str(error)})

    async def _handle(self, request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        route = request.route
        if route.kind == "health":
            await self._health(writer)
        elif route.kind == "info":
            await self._info(writer)
        elif route.kind == "images":
            await self._list_images(route, writer)
        elif route.kind == "image":
            await _send(writer, 200, await self._images.resolve(route.subject))
        elif route.kind == "create":
            await self._create(request, writer)
        elif route.kind == "list":
            query = {**route.query, "filters": own_filters(route.query.get("filters", ""), own_labels(self._settings))}
            await self._pass_on(replace(request, route=replace(route, query=query)), "", reader, writer)
        elif route.subject:
            await self._pass_on_to_container(request, reader, writer)
        else:
            await self._pass_on(request, "", reader, writer)

    async def _health(self, writer: asyncio.StreamWriter) -> None:
        answer = await self._engine.request("GET", "/_ping", seconds=5)
        state = {
            "status": "ok" if answer.status == 200 else "engine not well",
            "images": self._images.pinned,
            "containers": self._orphans.known,
            "refusals": self._reports.refusals,
        }
        await _send(writer, 200 if answer.status == 200 else 503, state)

    async def _info(self, writer: asyncio.StreamWriter) -> None:
        """Of all that the engine tells about its machine only whether there are GPUs to ask for."""
        answer = await self._engine.request("GET", "/info")
        runtimes = answer.json().get("Runtimes") or {}
        names = [name for name in runtimes if name != "nvidia" or self._settings.gpus]
        await _send(writer, answer.status, {"Runtimes": {name: {} for name in names}})

    async def _list_images(self, route: Route, writer: asyncio.StreamWriter) -> None:
        """Answered here: the engine's own list would show images that are none of the client's business."""
        image = await self._images.resolve(image_filter(route.query.get("filters", "")))
        keys = ("Id", "RepoTags", "RepoDigests", "Size")
        await _send(writer, 200, [{key: image.get(key) for key in keys}])

    async def _create(self, request: Request, writer: asyncio.StreamWriter) -> None:
        config = review_create(request.body, self._settings)
        image = await self._images.resolve(config["Image"])
        body = json.dumps({**config, "Image": image["Id"]}).encode()
        async with self._creating:
            if self._stopping:
                raise PlatformError("the broker was told to stop and makes no more containers")
            there = len(await self._engine.containers_with(own_labels(self._settings)))
            if there >= self._settings.max_containers:
                expected = f"must be fewer than {self._settings.max_containers} (settings.broker.max_containers)"
                raise RefusedError(Rule.COUNT, f"there are {there} containers", expected)
            answer = await self._engine.request("POST", request.route.target(), body, seconds=60)
        if answer.status == HTTPStatus.CREATED:
            container = str(answer.json()["Id"])
            self._orphans.created(container)
            LOG.info("container %s was created from %s, labels %s", container[:12], image["Id"], config["Labels"])
        await _send(writer, answer.status, answer.json())

    async def _pass_on_to_container(
        self, request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Only to a container of ours, by its id: a name could go to another one in between."""
        name = request.route.subject
        found = await self._engine.inspect_container(name)
        if found is None:
            await _send(writer, 404, {"message": f"No such container: {name}"})
            return
        labels = found["Config"].get("Labels") or {}
        for label, value in own_labels(self._settings).items():
            if labels.get(label) != value:
                seen = f"container {name} has {label} = {shown(labels.get(label))}"
                raise RefusedError(Rule.OWNER, seen, f"must be {value!r}")
        container = str(found["Id"])
        with self._orphans.following(container) if request.route.is_watch else nullcontext():
            status = await self._pass_on(request, container, reader, writer)
        if request.route.kind == "remove" and status == HTTPStatus.NO_CONTENT:
            self._orphans.removed(container)

    async def _pass_on(
        self, request: Request, subject: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> int:
        """Asks the engine and passes its answer on until one side ends; gives the answer's status, 0 for none."""
        async with self._engine.connect() as (from_engine, to_engine):
            to_engine.write(head_of(request.route.method, request.route.target(subject), b"", upgrade=request.upgrade))
            answering = asyncio.create_task(_copy(from_engine, writer))
            leaving = asyncio.create_task(_until_gone(reader))
            try:
                await asyncio.wait({answering, leaving}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                leaving.cancel()
                answering.cancel()
                results = await asyncio.gather(answering, leaving, return_exceptions=True)
        return results[0] if isinstance(results[0], int) else 0


async def read_request(reader: asyncio.StreamReader, most_body_bytes: int, line: list[str]) -> Request | None:
    """Reads one request, strictly; None where the client left without one.

    Args:
        reader: the client.
        most_body_bytes: a longer body is refused.
        line: its first element is set to the request line as soon as that is known, for the report of a refusal.

    Raises:
        RefusedError: rule `http`, `path`, `query` or `body`.
    """
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=_MOST_HEAD_BYTES)
    head: h11.Request | None = None
    body = bytearray()
    try:
        while True:
            event = connection.next_event()
            if event is h11.NEED_DATA:
                connection.receive_data(await reader.read(CHUNK))
            elif isinstance(event, h11.Request):
                head = event
                line[0] = f"{head.method.decode()} {head.target.decode()}"[:300]
                _check_head(head, most_body_bytes)
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                break
            else:
                return None
    except h11.RemoteProtocolError as error:
        raise RefusedError(Rule.HTTP, f"the request is no strict HTTP/1.1 ({error})", "must be") from None
    if head is None or connection.trailing_data[0]:
        raise RefusedError(Rule.HTTP, "more bytes stand behind the request", "must be one request a connection")
    route = find_route(head.method.decode(), head.target.decode())
    upgrade = _check_upgrade(_headers(head), route)
    if body and route.kind != "create":
        raise RefusedError(Rule.BODY, f"{line[0]} has a body", "must have none")
    return Request(line[0], route, bytes(body), upgrade)


def _headers(head: h11.Request) -> dict[str, str]:
    return {name.decode().lower(): value.decode("latin-1") for name, value in head.headers}


def _check_head(head: h11.Request, most_body_bytes: int) -> None:
    headers = _headers(head)
    if len(headers) != len(list(head.headers)):
        raise RefusedError(Rule.HTTP, "a header stands twice", "must stand once")
    if head.http_version != b"1.1":
        raise RefusedError(Rule.HTTP, f"the version is HTTP/{head.http_version.decode()}", "must be HTTP/1.1")
    for name in ("transfer-encoding", "expect", "trailer", "te", "x-registry-auth", "x-registry-config"):
        if name in headers:
            raise RefusedError(Rule.HTTP, f"there is a header {name}", "must be left out")
    if int(headers.get("content-length", "0")) > most_body_bytes:
        seen = f"the body has {headers['content-length']} bytes"
        raise RefusedError(Rule.BODY, seen, f"must have at most {most_body_bytes} (settings.broker.max_body_bytes)")


def _check_upgrade(headers: Mapping[str, str], route: Route) -> bool:
    tokens = {token.strip().lower() for token in headers.get("connection", "").split(",")} - {""}
    wants = "upgrade" in tokens or "upgrade" in headers
    if tokens - {"keep-alive", "close", "upgrade"}:
        raise RefusedError(Rule.HTTP, f"Connection is {shown(headers['connection'])}", "must be close or keep-alive")
    if wants and (route.kind != "attach" or headers.get("upgrade", "").lower() != "tcp"):
        raise RefusedError(Rule.HTTP, "the request asks for another protocol", "only attach may, for tcp")
    return wants


async def _send(writer: asyncio.StreamWriter, status: int, document: Any) -> None:
    body = json.dumps(document).encode()
    head = (
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    writer.write(head.encode() + body)
    await writer.drain()


async def _copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> int:
    """Copies until the end; gives the HTTP status in the first line."""
    first = b""
    while chunk := await source.read(CHUNK):
        first = first or chunk[:12]
        target.write(chunk)
        await target.drain()
    return int(first[9:12]) if first[9:12].isdigit() else 0


async def _until_gone(reader: asyncio.StreamReader) -> None:
    """Returns when the client has gone. What it sends meanwhile is thrown away."""
    with suppress(ConnectionError):
        while await reader.read(CHUNK):
            pass


def _keep_alive(writer: asyncio.StreamWriter) -> None:
    connection = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in _KEEPALIVE:
        connection.setsockopt(socket.IPPROTO_TCP, option, value)
