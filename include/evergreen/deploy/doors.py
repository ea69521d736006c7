"""A deployment as its users meet it: its public doors, tried from outside."""

from __future__ import annotations

import json
import time
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import ProxyHandler, build_opener

from evergreen.errors import DeployError
from evergreen.platform.airflow import CONSUMERS_FIRST
from evergreen.platform.client import AirflowClient, ApiError

POLL_SECONDS = 2.0
DAGS_SECONDS = 120.0


def smoke_test(client: AirflowClient, serving: str) -> None:
    """As a user would: a wrong password is refused, the right one sees all DAGs, serving answers.

    Raises:
        DeployError: what is not so.
    """
    try:
        AirflowClient(client.url, lambda: ("admin", "wrong")).dag_ids()
    except ApiError as error:
        if error.status != 401:
            raise
    else:
        raise DeployError(f"Airflow at {client.url} let a wrong password in")
    deadline = time.monotonic() + DAGS_SECONDS
    while missing := set(CONSUMERS_FIRST) - client.dag_ids():
        if errors := client.import_errors():
            raise DeployError(f"DAG files cannot be imported: {', '.join(sorted(errors))}")
        if time.monotonic() > deadline:
            raise DeployError(f"Airflow does not know the DAGs {', '.join(sorted(missing))}")
        time.sleep(POLL_SECONDS)
    sick = {name: state for name, state in client.health().items() if state != "healthy"}
    if sick:
        raise DeployError(f"Airflow says that parts are not healthy: {sick}")
    serving_health(serving)


def serving_health(serving: str) -> dict[str, Any]:
    """What serving says of itself.

    Raises:
        DeployError: it does not answer.
    """
    try:
        with build_opener(ProxyHandler({})).open(f"{serving}/health", timeout=10) as answer:
            return dict(json.load(answer))
    except (HTTPError, URLError, OSError, ValueError) as error:
        raise DeployError(f"serving does not answer at {serving}/health: {error}") from None
