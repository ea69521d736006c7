from __future__ import annotations

import json
from datetime import UTC, date, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Event, Thread
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from evergreen.errors import PlatformError
from evergreen.platform import client as module
from evergreen.platform.client import AirflowClient, ApiError, NoAnswerError, parse_time


class Server:
    """Answers from a table of (method, path); keeps what it was asked."""

    def __init__(self) -> None:
        self.answers: dict[tuple[str, str], Any] = {}
        self.asked: list[tuple[str, str, dict[str, str], Any, str]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                parts = urlsplit(self.path)
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                query = {key: values[0] for key, values in parse_qs(parts.query).items()}
                path, token = unquote(parts.path), self.headers.get("Authorization", "")
                outer.asked.append((self.command, path, query, json.loads(body) if body else None, token))
                answer = outer.answers.get((self.command, path), (404, {"detail": f"no {path}"}))
                code, content = answer(query, token) if callable(answer) else answer
                self.send_response(code)
                self.end_headers()
                self.wfile.write(content if isinstance(content, bytes) else json.dumps(content).encode())

            def do_POST(self) -> None:
                self.do_GET()

            def do_PATCH(self) -> None:
                self.do_GET()

            def log_message(self, *_: Any) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def server():
    made = Server()
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.fixture
def client(server: Server) -> AirflowClient:
    return AirflowClient(server.url)


RUN = "/api/v2/dags/build_features/dagRuns/manual__2026-11-20T19:01:11+00:00__x"
RUN_ID = "manual__2026-11-20T19:01:11+00:00__x"


def test_a_run_is_triggered_for_its_partition(server, client):
    server.answers["POST", "/api/v2/dags/ingest_transactions/dagRuns"] = (200, {"dag_run_id": "r"})
    made = client.trigger("ingest_transactions", partition_key="2011-08-31", conf={"day": "2011-08-31"})
    assert made == {"dag_run_id": "r"}
    assert server.asked[-1][3] == {
        "logical_date": None,
        "partition_key": "2011-08-31",
        "conf": {"day": "2011-08-31"},
        "note": None,
    }


def test_runs_are_those_of_the_partition_alone(server, client):
    runs = [{"partition_key": "2011-08-31"}, {"partition_key": "2011-08-310"}, {"partition_key": None}]
    server.answers["GET", "/api/v2/dags/build_features/dagRuns"] = (200, {"dag_runs": runs})
    assert client.dag_runs("build_features", "2011-08-31") == runs[:1]
    assert server.asked[-1][2]["order_by"] == "-id"
    assert client.dag_runs("build_features") == runs


def test_ids_that_hold_plus_and_colon_arrive_whole(server, client):
    server.answers["GET", RUN] = (200, {"state": "success"})
    assert client.dag_run("build_features", RUN_ID) == {"state": "success"}


def test_tasks_come_in_the_order_in_which_they_started(server, client):
    tasks = [
        {"task_id": "publish", "start_date": None, "map_index": -1},
        {"task_id": "train", "start_date": "2026-11-20T19:02:00Z", "map_index": 1},
        {"task_id": "train", "start_date": "2026-11-20T19:02:00Z", "map_index": 0},
        {"task_id": "stage", "start_date": "2026-11-20T19:01:00Z", "map_index": -1},
    ]
    server.answers["GET", f"{RUN}/taskInstances"] = (200, {"task_instances": tasks})
    found = client.task_instances("build_features", RUN_ID)
    assert [(task["task_id"], task["map_index"]) for task in found] == [
        ("stage", -1),
        ("train", 0),
        ("train", 1),
        ("publish", -1),
    ]


def test_what_a_task_returned(server, client):
    server.answers["GET", f"{RUN}/taskInstances/judge/xcomEntries/return_value"] = (
        200,
        {"value": {"verdict": "reject"}},
    )
    assert client.xcom("build_features", RUN_ID, "judge") == {"verdict": "reject"}
    assert client.xcom("build_features", RUN_ID, "other") is None


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (
            [
                {"event": "starting"},
                {"event": "Task failed", "error_detail": [{"exc_type": "DataQualityError", "exc_value": "12 lines"}]},
                {"event": "ended"},
            ],
            "DataQualityError: 12 lines",
        ),
        (["starting\nValueError: no day\nended"], "ValueError: no day"),
        ([{"event": "Skipping task.", "reason": "no champion yet"}, {"event": "::endgroup::"}], "no champion yet"),
        ([{"event": "killed"}], "killed"),
        ([], "its log is empty"),
    ],
)
def test_the_line_that_says_why_a_task_failed_or_was_skipped(server, client, content, line):
    server.answers["GET", f"{RUN}/taskInstances/check/logs/2"] = (200, {"content": content})
    assert client.task_error("build_features", RUN_ID, "check", -1, 2) == line


def test_a_task_that_never_ran_has_no_log(server, client):
    assert client.task_log("build_features", RUN_ID, "publish") == []
    server.answers["GET", f"{RUN}/taskInstances/publish/logs/1"] = (500, {"detail": "disk"})
    with pytest.raises(ApiError, match="500 disk"):
        client.task_log("build_features", RUN_ID, "publish")


def test_an_approval_is_seen_and_answered(server, client):
    server.answers["GET", "/api/v2/dags/~/dagRuns/~/hitlDetails"] = (200, {"hitl_details": [{"subject": "Promote?"}]})
    server.answers["PATCH", f"{RUN}/taskInstances/approve/-1/hitlDetails"] = (200, {})
    assert client.pending_approvals() == [{"subject": "Promote?"}]
    assert server.asked[-1][2]["response_received"] == "false"
    for approve, option in ((True, "Approve"), (False, "Reject")):
        client.answer("build_features", RUN_ID, "approve", approve=approve)
        assert server.asked[-1][3] == {"chosen_options": [option], "params_input": {}}


def test_an_answer_that_somebody_else_gave_first_is_a_conflict(server, client):
    server.answers["PATCH", f"{RUN}/taskInstances/approve/-1/hitlDetails"] = (409, {"detail": "already been updated"})
    with pytest.raises(ApiError, match="409 already been updated") as refused:
        client.answer("build_features", RUN_ID, "approve", approve=True)
    assert refused.value.status == 409


def test_a_pool_is_made_or_resized(server, client):
    server.answers["POST", "/api/v2/pools"] = (201, {})
    client.ensure_pool("heavy", 1, "Spark")
    assert server.asked[-1][3]["name"] == "heavy"
    server.answers["POST", "/api/v2/pools"] = (409, {"detail": "exists"})
    server.answers["PATCH", "/api/v2/pools/heavy"] = (200, {})
    client.ensure_pool("heavy", 2, "Spark")
    assert server.asked[-1][:2] == ("PATCH", "/api/v2/pools/heavy")
    server.answers["POST", "/api/v2/pools"] = (500, {"detail": "no"})
    with pytest.raises(ApiError, match="500"):
        client.ensure_pool("heavy", 2, "Spark")


def test_dags_are_listed_and_paused(server, client):
    server.answers["GET", "/api/v2/dags"] = (200, {"dags": [{"dag_id": "a"}, {"dag_id": "b"}]})
    server.answers["PATCH", "/api/v2/dags/a"] = (200, {})
    assert client.dag_ids() == client.paused_dags() == {"a", "b"}
    assert server.asked[-1][2]["paused"] == "true"
    client.set_paused("a", paused=True)
    assert server.asked[-1][2:4] == ({"update_mask": "is_paused"}, {"is_paused": True})


def backfill_server(server: Server, states: list[list[str]]) -> None:
    """Each look at the backfill shows the next of these states of its runs; the last one is the end."""
    looks = iter(states)
    now: list[str] = []

    def backfill(_query: Any, _token: str) -> tuple[int, Any]:
        now[:] = next(looks)
        done = all(state in ("success", "failed") for state in now)
        return 200, {"id": 4, "dag_id": "d", "completed_at": "2026-11-20T19:00:00Z" if done else None}

    def runs(query: dict[str, str], _token: str) -> tuple[int, Any]:
        found = [{"state": state, "partition_key": f"2011-08-{day:02}"} for day, state in enumerate(now, 1)]
        offset = int(query["offset"])
        return 200, {"dag_runs": found[offset : offset + 2], "total_entries": len(found)}

    server.answers["GET", "/api/v2/backfills/4"] = backfill
    server.answers["GET", "/api/v2/dags/d/dagRuns"] = runs


def test_a_backfill_is_created_and_waited_for(server, client, monkeypatch):
    monkeypatch.setattr(module, "POLL_SECONDS", 0)
    server.answers["POST", "/api/v2/backfills"] = (200, {"id": 4})
    made = client.backfill("d", date(2011, 8, 1), date(2011, 8, 3), conf={"source": "x"}, max_active_runs=2)
    assert made == {"id": 4}
    assert server.asked[-1][3] == {
        "dag_id": "d",
        "from_date": "2011-08-01T00:00:00Z",
        "to_date": "2011-08-03T00:00:00Z",
        "dag_run_conf": {"source": "x"},
        "max_active_runs": 2,
        "reprocess_behavior": "completed",
    }
    backfill_server(server, [["running", "queued"], ["success", "running", "queued"], ["success"] * 3])
    told: list[tuple[int, int]] = []
    client.await_backfill(4, lambda done, total: told.append((done, total)))
    assert told == [(0, 2), (1, 3), (3, 3)]


def test_days_of_a_backfill_that_failed_are_named(server, client):
    backfill_server(server, [["success", "failed", "failed"]])
    with pytest.raises(PlatformError, match=r"^2 of 3 days failed: 2011-08-02, 2011-08-03; see http"):
        client.await_backfill(4)


def test_where_a_login_is_needed_a_token_is_fetched_once_and_renewed(server):
    tokens = iter(["first", "second"])
    server.answers["POST", "/auth/token"] = lambda _query, _token: (201, {"access_token": next(tokens)})
    valid = {"first"}
    server.answers["GET", "/api/v2/dags"] = lambda _query, token: (
        (200, {"dags": [{"dag_id": "a"}]}) if token.removeprefix("Bearer ") in valid else (401, {"detail": "expired"})
    )
    client = AirflowClient(server.url, lambda: ("admin", "secret"))
    assert client.dag_ids() == client.dag_ids() == {"a"}
    assert [asked[3] for asked in server.asked if asked[1] == "/auth/token"] == [
        {"username": "admin", "password": "secret"}
    ]
    valid.clear()
    valid.add("second")
    assert client.dag_ids() == {"a"}
    assert client.user == "admin"


def test_health_is_asked_without_a_login(server):
    """While it starts, there is nobody to log in with."""
    server.answers["GET", "/api/v2/monitor/health"] = (200, {"scheduler": {"status": "healthy"}, "triggerer": None})
    assert AirflowClient(server.url, lambda: ("admin", "secret")).health() == {"scheduler": "healthy"}
    assert [asked[1] for asked in server.asked] == ["/api/v2/monitor/health"]


@pytest.mark.parametrize(
    ("scheduler", "processor", "alive"),
    [("12:00:01", "12:00:01", True), ("11:59:59", "12:00:01", False), ("12:00:01", None, False)],
)
def test_a_heartbeat_from_before_the_start_does_not_count(server, client, scheduler, processor, alive):
    """A scheduler that was killed counts as healthy for another half minute."""
    beats = {"scheduler": scheduler, "dag_processor": processor}
    health = {
        part: {"status": "healthy", f"latest_{part}_heartbeat": beat and f"2026-11-20T{beat}+00:00"}
        for part, beat in beats.items()
    }
    server.answers["GET", "/api/v2/monitor/health"] = (200, health)
    assert client.alive_since(datetime(2026, 11, 20, 12, tzinfo=UTC)) is alive


def test_without_credentials_a_refusal_is_final(server, client):
    server.answers["GET", "/api/v2/monitor/health"] = (401, {"detail": "log in"})
    with pytest.raises(ApiError, match="Airflow refused GET /api/v2/monitor/health: 401 log in"):
        client.health()


@pytest.mark.parametrize(
    ("content", "shown"), [({"detail": [{"loc": ["body"]}]}, '[{"loc": ["body"]}]'), (b"<h1>oh</h1>", "<h1>oh</h1>")]
)
def test_other_errors_are_shown_as_they_are(server, client, content, shown):
    server.answers["GET", "/api/v2/monitor/health"] = (500, content)
    with pytest.raises(ApiError) as refused:
        client.health()
    assert str(refused.value).endswith(shown)


def test_an_answer_of_another_shape_is_refused(server, client):
    server.answers["GET", RUN] = (200, [1])
    with pytest.raises(PlatformError, match="with list, expected an object"):
        client.dag_run("build_features", RUN_ID)


@pytest.fixture
def late(server, monkeypatch):
    """Lets the server miss so many first requests of a path."""
    monkeypatch.setattr(module, "TIMEOUT_SECONDS", 0.2)
    release = Event()

    def make(method: str, path: str, misses: int) -> None:
        seen = []

        def answer(query, token):
            seen.append(query)
            if len(seen) <= misses:
                release.wait(0.35)
            return 200, {"dag_run_id": RUN_ID, "state": "running"}

        server.answers[method, path] = answer

    yield make
    release.set()


def test_a_late_answer_is_asked_for_again(server, client, late):
    late("GET", RUN, 2)
    assert client.dag_run("build_features", RUN_ID)["state"] == "running"
    late("PATCH", "/api/v2/dags/build_features", 1)
    client.set_paused("build_features", paused=False)


def test_what_would_be_done_twice_is_sent_once(server, client, late):
    late("POST", "/api/v2/dags/build_features/dagRuns", 1)
    with pytest.raises(NoAnswerError, match="timed out"):
        client.trigger("build_features", partition_key=None)
    assert [asked[0] for asked in server.asked] == ["POST"]


def test_an_answer_that_never_comes_is_not_waited_for_long(server, client, late):
    late("GET", RUN, 99)
    with pytest.raises(NoAnswerError, match="timed out"):
        client.dag_run("build_features", RUN_ID)
    assert len(server.asked) <= module.TRIES


def test_nothing_there_says_what_to_do():
    with pytest.raises(NoAnswerError, match=r"^Airflow does not answer at http://127.0.0.1:1 .*: ./evergreen up$"):
        AirflowClient("http://127.0.0.1:1").health()


def test_a_proxy_is_not_asked_for_what_is_on_this_machine(server, client, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    server.answers["GET", "/api/v2/monitor/health"] = (200, {})
    assert AirflowClient(server.url).health() == {}


def test_pages_of_tasks_have_addresses(client):
    assert client.task_url("d", "r+1", "approve") == f"{client.url}/dags/d/runs/r%2B1/tasks/approve"


def test_times_have_their_zone():
    assert parse_time("2026-11-20T19:02:51.824321Z") == datetime(2026, 11, 20, 19, 2, 51, 824321, tzinfo=UTC)
