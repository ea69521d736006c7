"""A small client of Airflow's REST API: what a person does in the web UI, done by the command line."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime
from http import HTTPStatus
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urlencode
from urllib.request import ProxyHandler, Request, build_opener

from evergreen.errors import PlatformError

APPROVE = "Approve"
REJECT = "Reject"
TIMEOUT_SECONDS = 20.0
TRIES = 4  # of what may be asked twice: a machine that is busy with a training answers late
POLL_SECONDS = 1.0
SKIPPED = "Skipping task."
PAGE = 100

Json = dict[str, Any]


class ApiError(PlatformError):
    """Airflow answered with an error."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class NoAnswerError(PlatformError):
    """Nothing answers at Airflow's address."""


class LateAnswerError(NoAnswerError):
    """Nothing answered within `TIMEOUT_SECONDS`."""


class AirflowClient:
    """Calls `url`/api/v2. `credentials` gives user and password when a token is needed; None where no login is."""

    def __init__(self, url: str, credentials: Callable[[], tuple[str, str]] | None = None) -> None:
        self.url = url.rstrip("/")
        self._credentials = credentials
        self._token: str | None = None
        self.user = "Anonymous"  # as Airflow calls everyone where no login is needed
        self._open = build_opener(ProxyHandler({})).open  # this machine's Airflow is never behind a proxy

    def health(self) -> dict[str, str | None]:
        """State of scheduler, DAG processor, triggerer and database: `healthy`, `unhealthy`, None before the first."""
        return {name: part["status"] for name, part in self._health().items()}

    def alive_since(self, moment: datetime, parts: Iterable[str] = ("scheduler", "dag_processor")) -> bool:
        """Whether these parts gave a heartbeat after a moment: a dead one counts as healthy for half a minute."""
        health = self._health()
        beats = [health.get(part, {}).get(f"latest_{part}_heartbeat") for part in parts]
        return all(beat is not None and parse_time(beat) > moment for beat in beats)

    def _health(self) -> dict[str, Json]:
        # Open to everyone: while Airflow starts there is nobody to log in with.
        answer = self._send("GET", "/api/v2/monitor/health", None, None, token=None)
        return {name: part for name, part in answer.items() if part}

    def dag_ids(self) -> set[str]:
        """Ids of all DAGs that Airflow knows and finds on disk."""
        found = self._call("GET", "/api/v2/dags", {"limit": PAGE, "exclude_stale": True})["dags"]
        return {dag["dag_id"] for dag in found}

    def paused_dags(self) -> set[str]:
        """Ids of paused DAGs."""
        return {dag["dag_id"] for dag in self._call("GET", "/api/v2/dags", {"limit": PAGE, "paused": True})["dags"]}

    def import_errors(self) -> dict[str, str]:
        """Traceback by DAG file that cannot be imported."""
        errors = self._call("GET", "/api/v2/importErrors", {"limit": PAGE})["import_errors"]
        return {error["filename"]: error["stack_trace"] for error in errors}

    def set_paused(self, dag_id: str, *, paused: bool) -> None:
        """Pauses a DAG or lets it run."""
        query, body = {"update_mask": "is_paused"}, {"is_paused": paused}
        self._call("PATCH", f"/api/v2/dags/{_part(dag_id)}", query, body, tries=TRIES)

    def ensure_pool(self, name: str, slots: int, description: str) -> None:
        """Makes a pool, or sets its size."""
        pool = {"slots": slots, "description": description, "include_deferred": False}
        try:
            self._call("POST", "/api/v2/pools", body={"name": name, **pool})
        except ApiError as error:
            if error.status != HTTPStatus.CONFLICT:
                raise
            self._call("PATCH", f"/api/v2/pools/{_part(name)}", body={"pool": name, **pool})

    def pool_slots(self, name: str) -> int:
        """Size of a pool."""
        return int(self._object("GET", f"/api/v2/pools/{_part(name)}")["slots"])

    def variables(self) -> dict[str, str]:
        """Airflow's variables by key."""
        found = self._call("GET", "/api/v2/variables", {"limit": PAGE})["variables"]
        return {one["key"]: one["value"] for one in found}

    def trigger(
        self, dag_id: str, *, partition_key: str | None, conf: Mapping[str, Any] | None = None, note: str = ""
    ) -> Json:
        """Starts a run for a partition. Gives the run as Airflow describes it (`dag_run_id`, ...)."""
        body = {
            "logical_date": None,
            "partition_key": partition_key,
            "conf": dict(conf or {}),
            "note": note or None,
        }
        return self._object("POST", f"/api/v2/dags/{_part(dag_id)}/dagRuns", body=body)

    def dag_run(self, dag_id: str, run_id: str) -> Json:
        """One run."""
        return self._object("GET", f"/api/v2/dags/{_part(dag_id)}/dagRuns/{_part(run_id)}")

    def dag_runs(self, dag_id: str, partition_key: str | None = None) -> list[Json]:
        """Runs of a DAG (of one partition), newest first."""
        query: Json = {"order_by": "-id", "limit": PAGE}
        if partition_key is not None:
            query["partition_key_prefix_pattern"] = partition_key
        found = self._call("GET", f"/api/v2/dags/{_part(dag_id)}/dagRuns", query)["dag_runs"]
        return [run for run in found if partition_key in (None, run["partition_key"])]

    def task_instances(self, dag_id: str, run_id: str) -> list[Json]:
        """Task instances of a run, in the order in which they started; those that did not, last."""
        path = f"/api/v2/dags/{_part(dag_id)}/dagRuns/{_part(run_id)}/taskInstances"
        found: list[Json] = self._call("GET", path, {"limit": PAGE})["task_instances"]
        return sorted(found, key=lambda task: (task["start_date"] is None, task["start_date"] or "", task["map_index"]))

    def xcom(self, dag_id: str, run_id: str, task_id: str, *, key: str = "return_value", map_index: int = -1) -> Any:
        """What a task returned, None where it returned nothing."""
        run = f"/api/v2/dags/{_part(dag_id)}/dagRuns/{_part(run_id)}"
        path = f"{run}/taskInstances/{_part(task_id)}/xcomEntries/{_part(key)}"
        try:
            return self._call("GET", path, {"map_index": map_index, "deserialize": True})["value"]
        except ApiError as error:
            if error.status == HTTPStatus.NOT_FOUND:
                return None
            raise

    def task_log(
        self, dag_id: str, run_id: str, task_id: str, *, map_index: int = -1, try_number: int = 1
    ) -> list[str]:
        """Lines of a task's log, oldest first; none where it never ran."""
        run = f"/api/v2/dags/{_part(dag_id)}/dagRuns/{_part(run_id)}"
        path = f"{run}/taskInstances/{_part(task_id)}/logs/{try_number}"
        try:
            content = self._call("GET", path, {"map_index": map_index, "full_content": True})["content"]
        except ApiError as error:
            if error.status == HTTPStatus.NOT_FOUND:
                return []
            raise
        return [line for entry in content for line in _log_lines(entry)]

    def task_error(self, dag_id: str, run_id: str, task_id: str, map_index: int = -1, try_number: int = 1) -> str:
        """The line of a task's log that says why it failed or was skipped."""
        lines = self.task_log(dag_id, run_id, task_id, map_index=map_index, try_number=try_number)
        telling = [line for line in lines if "Error: " in line or "Exception: " in line or line.startswith(SKIPPED)]
        return (telling or lines or ["its log is empty"])[-1].removeprefix(f"{SKIPPED} ")

    def pending_approvals(self, dag_id: str = "~", run_id: str = "~") -> list[Json]:
        """Approval requests that wait for an answer: `subject`, `body`, `task_instance`."""
        path = f"/api/v2/dags/{_part(dag_id)}/dagRuns/{_part(run_id)}/hitlDetails"
        return list(self._call("GET", path, {"response_received": False, "limit": PAGE})["hitl_details"])

    def answer(
        self, dag_id: str, run_id: str, task_id: str, *, approve: bool, inputs: Mapping[str, Any] | None = None
    ) -> None:
        """Answers an approval request. Raises `ApiError` (409) where it was answered already."""
        run = f"/api/v2/dags/{_part(dag_id)}/dagRuns/{_part(run_id)}"
        body = {"chosen_options": [APPROVE if approve else REJECT], "params_input": dict(inputs or {})}
        self._call("PATCH", f"{run}/taskInstances/{_part(task_id)}/-1/hitlDetails", body=body)

    def task_url(self, dag_id: str, run_id: str, task_id: str) -> str:
        """Page of a task in the web UI."""
        return f"{self.url}/dags/{_part(dag_id)}/runs/{_part(run_id)}/tasks/{_part(task_id)}"

    def backfill(
        self,
        dag_id: str,
        start: date,
        end: date,
        *,
        conf: Mapping[str, Any] | None = None,
        max_active_runs: int = 1,
        reprocess: bool = True,
    ) -> Json:
        """Starts a backfill over the partitions `start` to `end`, both inclusive: `airflow backfill create`.

        Args:
            dag_id: a DAG with a schedule of its own; one that assets start cannot be backfilled.
            start: first day.
            end: last day.
            conf: params of each run.
            max_active_runs: runs of this DAG at once.
            reprocess: whether days that have a run already are run again.
        """
        body = {
            "dag_id": dag_id,
            "from_date": f"{start}T00:00:00Z",
            "to_date": f"{end}T00:00:00Z",
            "dag_run_conf": dict(conf or {}),
            "max_active_runs": max_active_runs,
            "reprocess_behavior": "completed" if reprocess else "none",
        }
        return self._object("POST", "/api/v2/backfills", body=body)

    def await_backfill(
        self, backfill_id: int, on_progress: Callable[[int, int], None] = lambda done, total: None
    ) -> None:
        """Waits until all runs of a backfill ended, telling how many of how many did.

        Raises:
            PlatformError: days failed; names them.
        """
        told = (-1, -1)
        while True:
            backfill = self._object("GET", f"/api/v2/backfills/{backfill_id}")
            runs = self.backfill_runs(backfill["dag_id"], backfill_id)
            done = sum(run["state"] in ("success", "failed") for run in runs)
            if (done, len(runs)) != told:
                told = (done, len(runs))
                on_progress(*told)
            if backfill["completed_at"]:
                break
            time.sleep(POLL_SECONDS)
        if failed := sorted(str(run["partition_key"]) for run in runs if run["state"] == "failed"):
            raise PlatformError(f"{len(failed)} of {len(runs)} days failed: {', '.join(failed)}; see {self.url}")

    def backfill_runs(self, dag_id: str, backfill_id: int) -> list[Json]:
        """Runs of a backfill."""
        query = {"run_type": "backfill", "limit": PAGE, "order_by": "-id"}
        found: list[Json] = []
        while True:
            page = self._call("GET", f"/api/v2/dags/{_part(dag_id)}/dagRuns", {**query, "offset": len(found)})
            found += page["dag_runs"]
            if not page["dag_runs"] or len(found) >= page["total_entries"]:
                return [run for run in found if run.get("backfill_id", backfill_id) == backfill_id]

    def _object(self, method: str, path: str, query: Mapping[str, Any] | None = None, body: Any = None) -> Json:
        answer = self._call(method, path, query, body)
        if not isinstance(answer, dict):
            raise PlatformError(f"Airflow answered {method} {path} with {type(answer).__name__}, expected an object")
        return answer

    def _call(
        self, method: str, path: str, query: Mapping[str, Any] | None = None, body: Any = None, *, tries: int = 0
    ) -> Any:
        """An answer of the API; a request without one in time is sent again where that changes nothing more."""
        tries = tries or (TRIES if method == "GET" else 1)
        for left in reversed(range(tries)):
            try:
                return self._logged_in(method, path, query, body)
            except LateAnswerError:
                if not left:
                    raise
        raise AssertionError  # the last try returned or raised

    def _logged_in(self, method: str, path: str, query: Mapping[str, Any] | None, body: Any) -> Any:
        if self._credentials is not None and self._token is None:
            self._token = self._log_in(self._credentials)
        try:
            return self._send(method, path, query, body)
        except ApiError as error:
            if error.status != HTTPStatus.UNAUTHORIZED or self._credentials is None:
                raise
            self._token = self._log_in(self._credentials)  # the token was good for a day
            return self._send(method, path, query, body)

    def _log_in(self, credentials: Callable[[], tuple[str, str]]) -> str:
        self.user, password = credentials()
        answer = self._send("POST", "/auth/token", None, {"username": self.user, "password": password}, token=None)
        return str(answer["access_token"])

    def _send(self, method: str, path: str, query: Mapping[str, Any] | None, body: Any, token: str | None = "") -> Any:
        token = self._token if token == "" else token
        url = self.url + path + (f"?{urlencode(_flat(query))}" if query else "")
        headers = {"Accept": "application/json", "Content-Type": "application/json"}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        data = None if body is None else json.dumps(body).encode()
        request = Request(url, data=data, headers=headers, method=method)
        try:
            with self._open(request, timeout=TIMEOUT_SECONDS) as answer:
                text = answer.read()
        except HTTPError as error:
            detail = _detail(error.read())
            raise ApiError(f"Airflow refused {method} {path}: {error.code} {detail}", error.code) from None
        except (URLError, OSError) as error:
            reason = getattr(error, "reason", error)
            kind = LateAnswerError if isinstance(reason, TimeoutError) else NoAnswerError
            raise kind(f"Airflow does not answer at {self.url} ({reason}): ./evergreen up") from None
        return json.loads(text) if text else {}


def parse_time(text: str) -> datetime:
    """A time as the API writes it, with its zone."""
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def _part(text: str) -> str:
    return quote(text, safe="~")


def _flat(query: Mapping[str, Any]) -> dict[str, str]:
    return {key: str(value).lower() if isinstance(value, bool) else str(value) for key, value in query.items()}


def _detail(body: bytes) -> str:
    try:
        detail = json.loads(body)["detail"]
    except (ValueError, KeyError, TypeError):
        return body.decode(errors="replace")[:300]
    return detail if isinstance(detail, str) else json.dumps(detail)[:300]


def _log_lines(entry: Any) -> list[str]:
    """A log entry as lines; the marks that fold groups of lines in the web UI are left out."""
    if isinstance(entry, str):
        return [line for line in entry.splitlines() if not line.startswith("::")]
    event = str(entry.get("event", ""))
    lines = [] if event.startswith("::") else [" ".join(filter(None, [event, str(entry.get("reason") or "")]))]
    for error in entry.get("error_detail") or []:
        lines.append(f"{error.get('exc_type', '')}: {error.get('exc_value', '')}")
    return lines
