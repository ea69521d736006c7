"""The weekly clean-up: each operator returns rows of one table, which the last one shows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowSkipException

from evergreen_airflow.failures import fails_plainly

if TYPE_CHECKING:
    from airflow.sdk import Context

    from evergreen.platform.containers import TaskKey
    from evergreen.platform.retention import Removed

ENGINE_SECONDS = 20
RUNNING = frozenset({"running", "restarting"})


class CleanUpOperator(BaseOperator):
    """What all of them share.

    :param only_count: `True` (as text, from a param) removes nothing. Templated.
    """

    template_fields: Sequence[str] = ("only_count",)

    def __init__(self, *, only_count: str = "", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.only_count = only_count

    @property
    def dry_run_asked(self) -> bool:
        """True where nothing may be removed."""
        return self.only_count.lower() == "true"


class VacuumOperator(CleanUpOperator):
    """Frees files of the lake that no newest release, registered model, training set or evidence needs."""

    @fails_plainly
    def execute(self, context: Context) -> list[dict[str, Any]]:
        """Returns a row for each table from which something was removed."""
        from evergreen.lake import Lake
        from evergreen.lake.maintenance import vacuum
        from evergreen.promotion.pins import pinned_versions
        from evergreen.settings import load_settings

        settings = load_settings()
        lake, days = Lake(settings.lake_path), settings.lake.retention_days
        removed = vacuum(lake, pinned_versions(settings), retention_days=days, dry_run=self.dry_run_asked)
        return [{"what": f"files of table {name}", "removed": count} for name, count in removed.items() if count]


class CleanFilesOperator(CleanUpOperator):
    """Removes what killed tasks left half-written, notes of what was staged long ago, and old logs."""

    @fails_plainly
    def execute(self, context: Context) -> list[dict[str, Any]]:
        """Returns a row for each kind."""
        from evergreen.platform.retention import days_ago, remove_leftovers, remove_logs, remove_manifests
        from evergreen.settings import load_settings

        settings = load_settings()
        keep, dry_run = settings.maintenance, self.dry_run_asked
        return [
            _row("leftovers", remove_leftovers(settings, days_ago(keep.leftover_days), dry_run=dry_run)),
            _row(
                "notes of staged days",
                remove_manifests(settings, days_ago(settings.lake.retention_days), dry_run=dry_run),
            ),
            _row("logs", remove_logs(settings, days_ago(keep.log_days), dry_run=dry_run)),
        ]


class CleanHistoryOperator(CleanUpOperator):
    """Removes Airflow's records of old runs by `airflow db clean`; skips where tasks cannot reach its database."""

    @fails_plainly
    def execute(self, context: Context) -> list[dict[str, Any]]:
        """Returns one row."""
        from evergreen.platform.retention import clean_history, days_ago, history_is_here
        from evergreen.settings import load_settings

        settings = load_settings()
        before = days_ago(settings.maintenance.history_days)
        if not history_is_here(settings):
            raise AirflowSkipException(
                "Airflow's records are in a database that tasks may not reach. Where the scheduler runs: airflow db "
                f"clean --clean-before-timestamp {before:%Y-%m-%d} --skip-archive --yes"
            )
        return [_row("Airflow's records", clean_history(settings, before, dry_run=self.dry_run_asked))]


class ReapContainersOperator(CleanUpOperator):
    """Removes trainer containers that no running task waits for; skips where no engine answers."""

    @fails_plainly
    def execute(self, context: Context) -> list[dict[str, Any]]:
        """Returns one row."""
        from docker.api.client import APIClient
        from docker.errors import DockerException

        from evergreen.platform.containers import Owner, orphans, part_filter, workspace_of
        from evergreen.settings import load_settings

        settings = load_settings()
        url = settings.container.engine_url
        try:
            engine = APIClient(base_url=url, timeout=ENGINE_SECONDS)
        except DockerException as error:
            raise AirflowSkipException(f"no Docker engine answers at {url}: {error}") from None
        workspace = workspace_of(settings)
        listed = engine.containers(
            all=True, filters={"label": part_filter(workspace)}
        )  # before the tasks: see `orphans`
        owners = [owner for one in listed if (owner := Owner.read(one["Labels"]))]
        found = orphans(
            listed, {(task, None) for task in running_tasks(context, {one.task for one in owners})}, workspace
        )
        for identifier in found:
            self.log.info("%s container %s", "would remove" if self.dry_run_asked else "removing", identifier[:12])
            if not self.dry_run_asked:
                engine.remove_container(identifier, force=True)
        return [{"what": "containers of dead tasks", "removed": len(found)}]


class SummaryOperator(CleanUpOperator):
    """Shows what was removed as one table.

    :param rows: what the others returned; None for those that skipped. Templated.
    """

    template_fields: Sequence[str] = ("only_count", "rows")

    def __init__(self, *, rows: Sequence[Any], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.rows = rows

    @fails_plainly
    def execute(self, context: Context) -> list[dict[str, Any]]:
        """Logs the table and returns it."""
        rows = [row for part in self.rows for row in part or []]
        width = max((len(row["what"]) for row in rows), default=0)
        self.log.info("would be removed:" if self.dry_run_asked else "removed:")
        for row in rows:
            size = f"{row['bytes'] / 1024**2:10.1f} MiB" if row.get("bytes") else ""
            self.log.info("  %s %8d %s", row["what"].ljust(width), row["removed"], size)
        if not any(row["removed"] for row in rows):
            self.log.info("  nothing")
        return rows


def running_tasks(context: Any, tasks: set[TaskKey]) -> set[TaskKey]:
    """Those of some task instances that run now, as the scheduler knows them."""
    ti, running = context["ti"], set()
    for task in tasks:
        states = ti.get_task_states(dag_id=task.dag_id, task_ids=[task.task_id], run_ids=[task.run_id])
        # A mapped instance is named by its index: that is how the API server writes them.
        name = task.task_id if task.map_index < 0 else f"{task.task_id}_{task.map_index}"
        if states.get(task.run_id, {}).get(name) in RUNNING:
            running.add(task)
    return running


def _row(what: str, removed: Removed) -> dict[str, Any]:
    return {"what": what, "removed": removed.count, "bytes": removed.size_bytes}
