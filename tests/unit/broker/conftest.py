"""A broker on a port of its own, before an engine that only writes down what reaches it."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import docker
import pytest

from evergreen.broker.proxy import Broker
from evergreen.broker.reports import Reports
from evergreen.promotion.ledger import Entry
from tests.create_requests import IMAGE, broker_settings

IMAGE_ID = f"sha256:{'1' * 64}"
FOREIGN_ID = f"sha256:{'2' * 64}"


@dataclass
class Container:
    labels: dict[str, str]
    status: str = "created"
    ended: asyncio.Event = field(default_factory=asyncio.Event)


class FakeEngine:
    """Answers as the engine would, as far as a trainer goes, and remembers each request."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.images = {IMAGE: IMAGE_ID, IMAGE_ID: IMAGE_ID, "foreign:1": FOREIGN_ID}
        self.containers: dict[str, Container] = {}
        self.seen: list[tuple[str, str, dict[str, str], bytes]] = []
        self._numbers = count(1)

    @property
    def asked(self) -> list[str]:
        """Method and path of each request."""
        return [f"{method} {target.partition('?')[0]}" for method, target, _, _ in self.seen]

    def add(self, labels: dict[str, str], status: str = "running") -> str:
        name = f"{next(self._numbers):064x}"
        self.containers[name] = Container(labels, status)
        return name

    async def start(self) -> asyncio.Server:
        return await asyncio.start_unix_server(self._serve, str(self.path))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            method, target, _ = lines[0].split(" ")
            headers = dict(line.lower().split(": ", 1) for line in lines[1:] if line)
            body = await reader.readexactly(int(headers.get("content-length", 0)))
            self.seen.append((method, target, headers, body))
            path, _, query = target.partition("?")
            path = path.removeprefix("/v1.41")
            await self._answer(method, path, parse_qs(query), body, reader, writer)
        writer.close()

    async def _answer(
        self,
        method: str,
        path: str,
        query: dict[str, list[str]],
        body: bytes,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        parts = path.strip("/").split("/")
        labels = json.loads(query.get("filters", ["{}"])[0]).get("label", [])
        plain: dict[str, Any] = {
            "/_ping": "OK",
            "/version": {"ApiVersion": "1.41"},
            "/info": {"Runtimes": {"runc": {"path": "/secret"}, "nvidia": {}}, "Name": "host"},
            "/containers/json": [
                {"Id": name, "Labels": one.labels}
                for name, one in self.containers.items()
                if all(label in [f"{key}={value}" for key, value in one.labels.items()] for label in labels)
            ],
        }
        if path in plain:
            self._send(writer, 200, plain[path])
        elif parts[0] == "images":
            found = self.images.get("/".join(parts[1:-1]))
            known = {"Id": found, "RepoTags": [IMAGE], "RepoDigests": [], "Size": 1}
            self._send(writer, 200, known) if found else self._send(writer, 404, {"message": "no such image"})
        elif path == "/containers/create":
            name = self.add(json.loads(body)["Labels"], "created")
            self._send(writer, 201, {"Id": name, "Warnings": []})
        else:
            await self._answer_container(method, parts, query, reader, writer)

    async def _answer_container(
        self,
        method: str,
        parts: list[str],
        query: dict[str, list[str]],
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        container = self.containers.get(parts[1])
        verb = parts[2] if len(parts) > 2 else ""
        if container is None:
            self._send(writer, 404, {"message": "no such container"})
        elif verb == "json":
            state = {"Status": container.status, "Running": container.status == "running"}
            self._send(
                writer, 200, {"Id": parts[1], "State": state, "Config": {"Labels": container.labels, "Tty": False}}
            )
        elif verb == "attach":
            writer.write(b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n")
            await self._until_ended(container, reader, writer)
        elif verb == "wait":
            ended = asyncio.create_task(container.ended.wait())
            await asyncio.wait({ended, asyncio.create_task(reader.read(1))}, return_when=asyncio.FIRST_COMPLETED)
            if container.ended.is_set():
                self._send(writer, 200, {"StatusCode": 0})
        elif verb == "start":
            container.status = "running"
            self._send(writer, 204, None)
        elif verb in ("stop", "kill"):
            self.end(parts[1])
            self._send(writer, 204, None)
        elif method == "DELETE":
            self.containers.pop(parts[1]).ended.set()
            self._send(writer, 204, None)

    async def _until_ended(
        self, container: Container, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        while container.status == "created":
            await asyncio.sleep(0.01)
        line = b"hello\n"
        writer.write(struct.pack(">BxxxL", 1, len(line)) + line)
        await writer.drain()
        gone = asyncio.create_task(reader.read(1))
        await asyncio.wait({gone, asyncio.create_task(container.ended.wait())}, return_when=asyncio.FIRST_COMPLETED)

    def end(self, name: str) -> None:
        self.containers[name].status = "exited"
        self.containers[name].ended.set()

    def _send(self, writer: asyncio.StreamWriter, status: int, document: Any) -> None:
        body = (
            b""
            if document is None
            else document.encode()
            if isinstance(document, str)
            else json.dumps(document).encode()
        )
        head = f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nConnection: close\r\n"
        if status != 204:
            head += f"Content-Length: {len(body)}\r\n"
        writer.write(head.encode() + b"\r\n" + body)


@dataclass
class House:
    """What the tests talk to."""

    engine: FakeEngine
    port: int
    loop: asyncio.AbstractEventLoop
    entries: list[Entry]
    stop: Callable[[], None]

    @property
    def client(self) -> docker.APIClient:
        return docker.APIClient(base_url=f"tcp://127.0.0.1:{self.port}", version="1.41", timeout=10)

    def send(self, raw: bytes) -> tuple[int, str]:
        """Sends bytes, gives status and body of the answer; 0 where there was none."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=10) as connection:
            connection.sendall(raw)
            connection.settimeout(10)
            answer = b""
            while chunk := connection.recv(65_536):
                answer += chunk
        head, _, body = answer.partition(b"\r\n\r\n")
        return (int(head[9:12]), body.decode()) if head else (0, "")

    def in_loop(self, call: Callable[[], Any]) -> None:
        """Runs something in the broker's thread."""
        done = threading.Event()
        self.loop.call_soon_threadsafe(lambda: (call(), done.set()))
        assert done.wait(10)


@pytest.fixture
def open_house() -> Iterator[Callable[..., House]]:
    """Starts a broker with given settings, before an engine that may hold containers already."""
    stops: list[Callable[[], None]] = []

    def start(prepare: Callable[[FakeEngine], object] = lambda engine: None, **changes: Any) -> House:
        folder = tempfile.TemporaryDirectory(prefix="eg-")  # a socket's path must be short
        engine = FakeEngine(Path(folder.name) / "engine.sock")
        prepare(engine)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        entries: list[Entry] = []
        ready = threading.Event()
        loops: list[asyncio.AbstractEventLoop] = []
        running: list[asyncio.Task[None]] = []

        async def serve() -> None:
            there = await engine.start()
            settings = broker_settings(**{"port": port, "socket": engine.path, "grace_seconds": 0.3, **changes})
            broker = Broker(settings, Reports(entries.append))
            server = await broker.start()
            running.append(asyncio.create_task(broker.run(server)))
            loops.append(asyncio.get_running_loop())
            ready.set()
            await asyncio.wait(running)
            there.close()

        thread = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)

        def stop() -> None:
            if thread.is_alive():
                loops[0].call_soon_threadsafe(running[0].cancel)
                thread.join(10)
            folder.cleanup()

        thread.start()
        assert ready.wait(10)
        stops.append(stop)
        return House(engine, port, loops[0], entries, stop)

    yield start
    for stop in stops:
        stop()


@pytest.fixture
def house(open_house: Callable[..., House]) -> House:
    """A broker with the tests' settings."""
    return open_house()
