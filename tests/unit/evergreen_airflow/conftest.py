"""The one thing that is not real in these tests: the context that Airflow hands to a running task."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest


class OutletEvents(defaultdict[Any, Any]):
    """Keeps what a task emits for each asset."""

    def __init__(self) -> None:
        super().__init__(lambda: SimpleNamespace(keys=[], extra={}, add_partitions=None))

    def __missing__(self, asset: Any) -> SimpleNamespace:
        event = SimpleNamespace(keys=[], extra={})
        event.add_partitions = event.keys.append
        self[asset] = event
        return event


@pytest.fixture
def context() -> Callable[..., dict[str, Any]]:
    """`context(partition_key="2011-08-31", run_type="manual", events=[...], **params)`."""

    def make(
        partition_key: str | None = None, run_type: str = "manual", events: list[Any] | None = None, **params: Any
    ) -> dict[str, Any]:
        dag_run = SimpleNamespace(
            partition_key=partition_key, run_type=run_type, run_id="run-1", triggering_user_name="ada"
        )
        return {
            "dag_run": dag_run,
            "run_id": "run-1",
            "params": params,
            "outlet_events": OutletEvents(),
            "triggering_asset_events": {"asset": events} if events else {},
        }

    return make
