"""What of an environment must be the same before a change and after it was gone back from, seen from outside."""

from __future__ import annotations

import json
from typing import Any

from evergreen.deploy.doors import serving_health
from evergreen.deploy.stack import Stack
from evergreen.errors import DeployError
from evergreen.platform.airflow import HEAVY_POOL

Look = dict[str, Any]
PROBE = ("python", "-m", "evergreen.deploy.probe")
MIGRATED = ("airflow", "mlflow")


def look(stack: Stack) -> Look:
    """Looks once, through the public doors and from within a worker.

    Returns:
        Values by name: `images` (what our containers run), `serving.*` (what /health says), `airflow.*` (health, DAGs,
        runs, slots of the pool `heavy`, variables, all from its REST API), `schema.*` (of each database that somebody
        migrates), `home.*` (what `evergreen.deploy.probe` says).

    Raises:
        DeployError: a door does not answer.
    """
    now = stack.now()
    client, served, databases = now.client, serving_health(now.urls[1]), now.databases
    promoted = served.get("champion") or {}
    try:
        probed = json.loads(now.in_worker(PROBE).strip().splitlines()[-1])
    except (DeployError, IndexError, ValueError) as error:
        raise DeployError(f"a worker cannot be asked ({error}): deploy these sources first") from None
    return {
        "images": sorted({str(one["Config"]["Image"]) for one in now.own_containers()}),
        "serving.version": served.get("version"),
        "serving.champion": [promoted.get("version"), promoted.get("bundle_digest")],
        "serving.generation": promoted.get("generation"),
        "airflow.health": client.health(),
        "airflow.dags": sorted(client.dag_ids()),
        "airflow.runs": sorted(f"{run['dag_id']} {run['dag_run_id']} {run['state']}" for run in client.dag_runs("~")),
        "airflow.heavy_slots": client.pool_slots(HEAVY_POOL),
        "airflow.variables": client.variables(),
        **{f"schema.{name}": databases.schema(name) for name in MIGRATED},
        **{f"home.{name}": value for name, value in probed.items()},
    }


def differences(one: Look, other: Look) -> list[str]:
    """Names of what differs, in the order of the first."""
    return [name for name, value in one.items() if other.get(name) != value]
