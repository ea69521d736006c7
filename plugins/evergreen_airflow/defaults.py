"""House defaults of all DAGs, the vocabulary of their tags, and the one way to know a run's day."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from typing import Any

from airflow.sdk import ExceptionRetryPolicy, Param, RetryAction, RetryRule

HEAVY_POOL = "heavy"  # Spark jobs and trainers: `evergreen.platform` makes it with `settings.airflow.heavy_slots`
GPU_POOL = "gpu"  # trainers that were promised a GPU: one slot a GPU (`settings.container.gpu_slots`)
KEY_FORMAT = "%Y-%m-%d"

# A run's own partition, else what a person typed into the trigger form.
DAY = "{{ dag_run.partition_key or params.day or '' }}"


class Tag(StrEnum):
    """All tags that a DAG may carry."""

    INGEST = "ingest"
    FEATURES = "features"
    MODEL = "model"
    RETRAINING = "retraining"
    SCORING = "scoring"
    MAINTENANCE = "maintenance"
    DAILY = "daily"
    WEEKLY = "weekly"
    BY_HAND = "by-hand"


# What Evergreen refuses on purpose will be refused again. A lost race is different: the next try builds on what won.
RETRY_POLICY = ExceptionRetryPolicy(
    rules=[
        RetryRule("evergreen.errors.PublishRefusedError", RetryAction.RETRY, reason="another writer was first"),
        RetryRule(
            "evergreen.errors.EvergreenError", RetryAction.FAIL, reason="refused on purpose: a retry will not help"
        ),
    ]
)

DEFAULTS: dict[str, Any] = {
    "start_date": datetime(2009, 1, 1, tzinfo=UTC),
    "catchup": False,
    "dagrun_timeout": timedelta(days=3),  # an approval may wait for a day
    "default_args": {
        "owner": "evergreen",
        "retries": 2,
        "retry_delay": timedelta(seconds=15),
        "retry_policy": RETRY_POLICY,
        "execution_timeout": timedelta(hours=6),
    },
}


def day_param(description: str) -> Param:
    """The `day` of a trigger form: a date, empty where the run's partition says it."""
    return Param(None, type=["null", "string"], format="date", title="Day of data", description=description)


def resolve_day(context: Mapping[str, Any]) -> date:
    """The day of data that a run is about: its partition key, else the param `day`.

    Raises:
        ValueError: the run has neither, or the key is no day.
    """
    text = context["dag_run"].partition_key or context["params"].get("day")
    return parse_day(text or "", context["dag_run"].run_id)


def parse_day(text: str, run_id: str = "") -> date:
    """A day from a rendered template.

    Raises:
        ValueError: it is empty or no day.
    """
    if not text:
        raise ValueError(f"run {run_id or '(by hand)'} has no partition key and no param `day`: give a day, YYYY-MM-DD")
    try:
        return datetime.strptime(text, KEY_FORMAT).date()
    except ValueError:
        raise ValueError(f"{text!r} is no day of data, expected YYYY-MM-DD such as 2011-08-31") from None


def is_backfill(context: Mapping[str, Any]) -> bool:
    """True where a backfill made the run, or all events that started it: such runs train and promote nothing."""
    run_type = context["dag_run"].run_type
    if str(getattr(run_type, "value", run_type)) == "backfill":
        return True
    events = [event for found in context.get("triggering_asset_events", {}).values() for event in found]
    return bool(events) and all((event.extra or {}).get("backfill") is True for event in events)


def emit(context: Mapping[str, Any], outlets: list[Any], day: date, extra: Mapping[str, Any]) -> None:
    """Emits an event of each asset for the partition `day`, however the run was started."""
    for asset in outlets:
        event = context["outlet_events"][asset]
        event.add_partitions(str(day))
        event.extra = {"day": str(day), "backfill": is_backfill(context), **extra}
