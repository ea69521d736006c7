"""Ends containers that nobody follows any more, such as those of a worker that was killed.

Whoever runs a container keeps a request open: the attached output, the followed log, or the wait for its end. When the
last of them goes, the container has a short grace; then it is stopped, killed and removed. The same holds for what is
found running when the broker starts.

When the broker is told to stop, all of them end: with it goes the connection over which they are followed, and nobody
would look after them.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from time import monotonic
from typing import Any

from evergreen.broker.engine import Engine
from evergreen.broker.policy import own_labels
from evergreen.errors import PlatformError
from evergreen.settings.broker import BrokerSettings

LOG = logging.getLogger(__name__)

LOOK_SECONDS = 0.5
_STOP_SECONDS = 5
_RETRY_SECONDS = 5.0
_ALL_SECONDS = 15.0


@dataclass
class Followed:
    """A container of ours. It is looked at when `due` has come and nobody follows it."""

    due: float  # by the monotonic clock
    born: float
    followers: int = 0
    finished: bool = False


class Orphans:
    """Knows who follows which container.

    Args:
        engine: where containers are ended.
        settings: how long they may stay.
        ended: called with a container's id and why, after it was removed.
    """

    def __init__(self, engine: Engine, settings: BrokerSettings, ended: Callable[[str, str], None]) -> None:
        self._engine = engine
        self._settings = settings
        self._ended = ended
        self._containers: dict[str, Followed] = {}

    @property
    def known(self) -> int:
        """How many containers there are, as far as is known."""
        return len(self._containers)

    def created(self, container: str) -> None:
        """A container was made: somebody must follow it soon."""
        now = monotonic()
        self._containers[container] = Followed(now + self._settings.start_seconds, now)

    def removed(self, container: str) -> None:
        """A client removed it."""
        self._containers.pop(container, None)

    @contextmanager
    def following(self, container: str) -> Iterator[None]:
        """Somebody follows the container while the body runs."""
        now = monotonic()
        followed = self._containers.setdefault(container, Followed(now, now))
        followed.followers += 1
        try:
            yield
        finally:
            followed.followers -= 1
            followed.due = monotonic() + self._settings.grace_seconds

    async def adopt(self) -> None:
        """Takes over what is there: containers of a broker before this one."""
        now = monotonic()
        for container in await self._engine.containers_with(own_labels(self._settings)):
            born = now - self._settings.start_seconds  # whoever made it had that time already
            self._containers.setdefault(container, Followed(now + self._settings.grace_seconds, born))

    async def run(self) -> None:
        """Looks for what is due, until it is cancelled."""
        while True:
            now = monotonic()
            due = [name for name, one in self._containers.items() if not one.followers and one.due <= now]
            await asyncio.gather(*(self._look(name) for name in due))
            await asyncio.sleep(LOOK_SECONDS)

    async def _look(self, container: str) -> None:
        followed = self._containers.get(container)
        if followed is None:
            return  # a client removed it just now
        try:
            found = await self._engine.inspect_container(container)
            if found is None:
                self.removed(container)
            elif not followed.followers and not self._is_given_time(followed, found["State"]):
                await self._end(container, str(found["State"]["Status"]), "nobody followed it")
        except (PlatformError, KeyError, ValueError) as error:
            followed.due = monotonic() + _RETRY_SECONDS
            LOG.warning("container %s could not be ended and is tried again: %s", container[:12], error)

    def _is_given_time(self, followed: Followed, state: dict[str, Any]) -> bool:
        """True for a container that may stay a little longer: not started yet, or ended by itself just now."""
        if state["Status"] == "created":
            followed.due = max(followed.due, followed.born + self._settings.start_seconds)
        elif not state["Running"] and not followed.finished:
            followed.finished = True
            followed.due = monotonic() + self._settings.finished_seconds
        return followed.due > monotonic()

    async def end_all(self) -> None:
        """Ends every container of ours, followed or not. What cannot be ended in time is left to the next broker."""
        try:
            async with asyncio.timeout(_ALL_SECONDS):
                names = await self._engine.containers_with(own_labels(self._settings))
                await asyncio.gather(*(self._end_now(name) for name in names))
        except (PlatformError, TimeoutError) as error:
            LOG.warning("containers could not be ended, the next broker will: %s", error or "the time was up")

    async def _end_now(self, container: str) -> None:
        try:
            if found := await self._engine.inspect_container(container):
                await self._end(container, str(found["State"]["Status"]), "the broker was told to stop")
        except (PlatformError, KeyError, ValueError) as error:
            LOG.warning("container %s could not be ended, the next broker will: %s", container[:12], error)

    async def _end(self, container: str, status: str, reason: str) -> None:
        if status not in ("created", "exited", "dead"):
            await self._engine.request("POST", f"/containers/{container}/stop", query={"t": str(_STOP_SECONDS)})
        answer = await self._engine.request("DELETE", f"/containers/{container}", query={"force": "1", "v": "1"})
        if answer.status not in (204, 404):
            raise PlatformError(f"the Docker engine did not remove it: {answer.status} {answer.body[:200]!r}")
        self.removed(container)
        why = f"it was {status} and {reason}"
        LOG.warning("container %s was removed: %s", container[:12], why)
        self._ended(container, why)
