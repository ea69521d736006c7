"""The engine behind its Unix socket: a connection for each request, so that no answer is taken for another's."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import h11

from evergreen.errors import PlatformError

CHUNK = 65_536
_MOST_ANSWER = 16 * 2**20


@dataclass(frozen=True)
class Answer:
    """What the engine answered."""

    status: int
    body: bytes

    def json(self) -> Any:
        """The body, read as JSON."""
        return json.loads(self.body)


class Engine:
    """Sends requests to the engine. What it sends was decided elsewhere."""

    def __init__(self, socket: Path) -> None:
        self.socket = socket

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        """A connection of its own, closed afterwards.

        Raises:
            PlatformError: the engine does not answer.
        """
        try:
            reader, writer = await asyncio.open_unix_connection(str(self.socket))
        except OSError as error:
            raise PlatformError(f"the Docker engine at {self.socket} does not answer: {error}") from error
        try:
            yield reader, writer
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    async def request(
        self,
        method: str,
        target: str,
        body: bytes = b"",
        *,
        seconds: float = 30.0,
        query: Mapping[str, str] | None = None,
    ) -> Answer:
        """Asks, and reads the whole answer.

        Raises:
            PlatformError: the engine does not answer, not in time, or not in HTTP.
        """
        if query:
            target = f"{target}?{urlencode(query)}"
        try:
            async with asyncio.timeout(seconds), self.connect() as (reader, writer):
                writer.write(head_of(method, target, body) + body)
                return await _read_answer(reader, method)
        except TimeoutError:
            raise PlatformError(f"the Docker engine did not answer {method} {target} in {seconds:g} s") from None
        except (OSError, h11.RemoteProtocolError) as error:
            raise PlatformError(f"the Docker engine broke off {method} {target}: {error}") from error

    async def inspect_container(self, name: str) -> dict[str, Any] | None:
        """What the engine knows of a container; None where there is none."""
        return await self._inspect(f"/containers/{name}/json")

    async def inspect_image(self, name: str) -> dict[str, Any] | None:
        """What the engine knows of an image; None where there is none."""
        return await self._inspect(f"/images/{name}/json")

    async def _inspect(self, target: str) -> dict[str, Any] | None:
        answer = await self.request("GET", target)
        if answer.status == 404:
            return None
        if answer.status != 200:
            raise PlatformError(f"the Docker engine answered GET {target} with {answer.status}: {answer.body[:200]!r}")
        return dict(answer.json())

    async def containers_with(self, labels: Mapping[str, str]) -> list[str]:
        """Ids of all containers with these labels, whatever their state."""
        filters = json.dumps({"label": [f"{name}={value}" for name, value in labels.items()]})
        answer = await self.request("GET", "/containers/json", query={"all": "1", "filters": filters})
        if answer.status != 200:
            raise PlatformError(f"the Docker engine did not list containers: {answer.status} {answer.body[:200]!r}")
        return [str(container["Id"]) for container in answer.json()]


def head_of(method: str, target: str, body: bytes, *, upgrade: bool = False) -> bytes:
    """A request's head. Nothing of the client's own headers is in it."""
    lines = [f"{method} {target} HTTP/1.1", "Host: docker"]
    lines += ["Connection: Upgrade", "Upgrade: tcp"] if upgrade else ["Connection: close"]
    if body:
        lines.append("Content-Type: application/json")
    if method == "POST":
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("ascii")


async def _read_answer(reader: asyncio.StreamReader, method: str) -> Answer:
    connection = h11.Connection(h11.CLIENT)
    connection.send(h11.Request(method=method, target="/", headers=[("Host", "docker")]))
    connection.send(h11.EndOfMessage())
    status, body = 0, bytearray()
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(await reader.read(CHUNK))
        elif isinstance(event, h11.Response):
            status = event.status_code
        elif isinstance(event, h11.Data):
            body += event.data
            if len(body) > _MOST_ANSWER:
                raise PlatformError(f"the Docker engine's answer is longer than {_MOST_ANSWER} bytes")
        elif isinstance(event, h11.EndOfMessage | h11.ConnectionClosed):
            return Answer(status, bytes(body))
