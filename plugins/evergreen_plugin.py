"""What Airflow finds when it looks for plugins: the reports' pages. Every process loads it, so it imports little."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from airflow.plugins_manager import AirflowPlugin

REPORTS_PREFIX = "/evergreen/reports"


class LazyReports:
    """The reports' application, imported at its first request: tasks load plugins too and never need it."""

    async def __call__(
        self,
        scope: MutableMapping[str, Any],
        receive: Callable[[], Awaitable[Any]],
        send: Callable[[Any], Awaitable[None]],
    ) -> None:
        """Hands the request on."""
        from evergreen_airflow.reports import app

        await app(scope, receive, send)


class EvergreenPlugin(AirflowPlugin):
    """Serves reports and data docs from the API server."""

    name = "evergreen"
    fastapi_apps = [{"app": LazyReports(), "url_prefix": REPORTS_PREFIX, "name": "Evergreen reports"}]  # noqa: RUF012
