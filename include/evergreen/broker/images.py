"""Images that may run: names on the list, each pinned to the image that it named when the broker started.

A tag can be moved to another image by whoever reaches the engine. It is looked up again for every container; where it
no longer names the pinned image the container is refused, and what is handed on is always the pinned id.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from evergreen.broker.engine import Engine
from evergreen.broker.refusal import RefusedError, Rule, shown
from evergreen.settings.broker import IMAGE_REFERENCE

LOG = logging.getLogger(__name__)


class Images:
    """The list, and what its names stand for."""

    def __init__(self, engine: Engine, allowed: Sequence[str]) -> None:
        self._engine = engine
        self._allowed = tuple(allowed)
        self.pinned: dict[str, str] = {}

    async def pin(self) -> None:
        """Looks every name up. One that is not there stays refused until the broker starts again."""
        for name in self._allowed:
            found = await self._engine.inspect_image(name)
            if found is None:
                LOG.warning("image %s is not at the engine: refused until it is built and the broker restarted", name)
            else:
                self.pinned[name] = str(found["Id"])

    async def resolve(self, name: str) -> dict[str, Any]:
        """What the engine knows of an image that may run; its `Id` is the pinned one.

        Raises:
            RefusedError: rule `image`.
        """
        expected = self.pinned.get(name)
        if expected is None and name in self.pinned.values():
            expected = name
        if expected is None or not IMAGE_REFERENCE.fullmatch(name):
            allowed = ", ".join(self.pinned) or "none"
            raise RefusedError(Rule.IMAGE, f"the image is {shown(name)}", f"must be on the list ({allowed})")
        found = await self._engine.inspect_image(name)
        if found is None or found["Id"] != expected:
            seen = f"{name} now names {found['Id'] if found else 'no image'}"
            raise RefusedError(
                Rule.IMAGE, seen, f"must be {expected}, as when the broker started; restart it after a build"
            )
        return found
