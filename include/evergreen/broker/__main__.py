"""`python -m evergreen.broker`: the broker as a service. Settings: `broker`."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys

from evergreen.broker.proxy import Broker
from evergreen.broker.reports import Reports
from evergreen.errors import EvergreenError, PlatformError
from evergreen.logs import configure_logging
from evergreen.promotion.ledger import Entry, Ledger
from evergreen.settings import Settings, load_settings

LOG = logging.getLogger(__name__)


async def serve(settings: Settings) -> None:
    """Serves until SIGTERM or SIGINT."""

    def append(entry: Entry) -> None:
        Ledger(settings).append(entry)  # opened for each line: the broker runs, and refuses, without the ledger too

    broker = Broker(settings.broker, Reports(append))
    try:
        server = await broker.start()
    except OSError as error:
        where = f"{settings.broker.host}:{settings.broker.port}"
        raise PlatformError(f"the broker cannot listen on {where}: {error} (settings.broker.port)") from error
    running = asyncio.create_task(broker.run(server))
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, running.cancel)
    LOG.info("the broker listens on %s:%d", settings.broker.host, settings.broker.port)
    await asyncio.wait({running})
    if not running.cancelled():
        running.result()


def main() -> int:
    """Runs the service; 1 where it cannot start."""
    try:
        settings = load_settings()
        configure_logging(settings.logging)
        asyncio.run(serve(settings))
    except EvergreenError as error:
        print(f"evergreen: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
