"""Commands: errors in one line, JSON in one line, and nothing written where the input is wrong."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path

import pytest
from rich.console import Console
from sqlalchemy import insert
from typer.testing import CliRunner

from evergreen.cli import app as commands
from evergreen.cli.console import seconds
from evergreen.cli.options import parse_day
from evergreen.cli.summary import Outcome, show
from evergreen.errors import PlatformError
from evergreen.platform.airflow import AirflowStatus
from evergreen.promotion.champion import barred
from evergreen.promotion.database import BARRED
from evergreen.promotion.ledger import Ledger
from evergreen.settings import workspace

runner = CliRunner()


def run_main(monkeypatch, capsys, *arguments: str) -> tuple[int, str, str]:
    monkeypatch.setattr("sys.argv", ["evergreen", *arguments])
    with pytest.raises(SystemExit) as ended:
        commands.main()
    captured = capsys.readouterr()
    return int(ended.value.code or 0), captured.out, captured.err


@pytest.mark.parametrize("command", [[], ["run"], ["backfill"], ["status"], ["score"], ["ledger"], ["bench"]])
def test_every_command_explains_itself(command):
    assert runner.invoke(commands.app, [*command, "--help"]).exit_code == 0


def test_a_day_that_is_none_is_a_usage_error():
    assert parse_day("2011-08-31") == date(2011, 8, 31)
    result = runner.invoke(commands.app, ["score", "--as-of", "31.8.2011", "--out", "x.parquet"])
    assert result.exit_code == 2
    assert "expected YYYY-MM-DD" in result.output


def test_status_of_an_empty_home_is_json(monkeypatch, capsys):
    code, out, _ = run_main(monkeypatch, capsys, "status", "--json")
    document = json.loads(out)
    assert code == 0
    assert document["champion"] is None
    assert document["lake"] == {}
    assert document["parts"]["airflow"]["state"] == "down"


def test_status_is_readable_too():
    assert "champion: none yet" in runner.invoke(commands.app, ["status"]).output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param(["run", "--source", "nowhere.csv"], "source nowhere.csv does not exist", id="source"),
        pytest.param(["rollback", "--reason", "it lies"], "evergreen: ", id="rollback-without-champion"),
        pytest.param(["score", "--as-of", "2011-09-01", "--out", "x.parquet"], "evergreen: ", id="no-champion"),
        pytest.param(["features", "--as-of", "2011-09-01", "--out", "x.parquet"], "no transactions", id="no-lake"),
        pytest.param(
            ["features", "--as-of", "2011-09-01", "--out", "x.parquet", "--pairs", "nowhere.csv"],
            "nowhere.csv does not exist",
            id="no-pairs",
        ),
    ],
)
def test_what_is_refused_is_one_line(monkeypatch, capsys, tmp_path, arguments, message):
    monkeypatch.chdir(tmp_path)
    code, _, err = run_main(monkeypatch, capsys, *arguments)
    assert code == 1
    assert message in err
    assert err.count("\n") == 1
    assert not Path("x.parquet").exists()


def test_a_source_that_does_not_exist_leaves_the_workspace_alone(monkeypatch, capsys, settings):
    run_main(monkeypatch, capsys, "run", "--source", "nowhere.csv")
    assert not (settings.root_path / workspace.POINTER).exists()


def test_pairs_without_their_columns_are_refused_by_name(monkeypatch, capsys, tmp_path):
    file = tmp_path / "pairs.csv"
    file.write_text("customer,product_id\n1,2\n")
    code, _, err = run_main(
        monkeypatch, capsys, "features", "--as-of", "2011-09-01", "--out", "x.parquet", "--pairs", str(file)
    )
    assert code == 1
    assert "lacks customer_id, it has customer, product_id" in err


def test_an_unknown_benchmark_names_the_known_ones():
    result = runner.invoke(commands.app, ["bench", "speed"])
    assert result.exit_code == 2
    assert "features" in result.output


def test_the_ledger_shows_and_verifies(monkeypatch, capsys):
    code, out, _ = run_main(monkeypatch, capsys, "ledger", "verify")
    assert code == 0
    assert "0 entries" in out
    assert run_main(monkeypatch, capsys, "ledger", "show", "--json")[1] == "[]\n"


def test_a_version_that_was_rolled_back_is_released_by_name(monkeypatch, capsys, settings):
    ledger = Ledger(settings)
    with ledger.transaction() as transaction:
        transaction.connection.execute(
            insert(BARRED).values(
                model_name=settings.mlflow.model_name, version="7", bundle_digest="a" * 64, reason="complaints"
            )
        )
    code, _, err = run_main(monkeypatch, capsys, "ledger", "release", "6", "--reason", "a slip")
    assert (code, err) == (1, "evergreen: version 6 cannot be released: it is not barred, barred are: 7\n")
    code, out, _ = run_main(monkeypatch, capsys, "ledger", "release", "7", "--reason", "it was the network")
    assert (code, out) == (0, "version 7 may be judged and promoted again\n")
    assert barred(settings) == {}
    assert [sealed.entry.outcome for sealed in ledger.entries()] == ["failure", "success"]
    assert run_main(monkeypatch, capsys, "ledger", "release", "7")[0] == 2  # no reason, no release


def test_workspaces_are_shown_and_gone_to(monkeypatch, capsys, settings):
    assert "no workspace yet" in run_main(monkeypatch, capsys, "workspace", "list")[1]
    workspace.choose(settings.root_path, "sample")
    shop = workspace.choose(settings.root_path, "shop-1234")
    shop.mkdir(parents=True)
    _, out, _ = run_main(monkeypatch, capsys, "workspace", "list")
    assert out == f"  sample  {settings.root_path}\n* shop-1234  {shop}\n"
    code, out, _ = run_main(monkeypatch, capsys, "workspace", "use", "sample")
    assert (code, out) == (0, f"commands work on sample now: {settings.root_path}\n")
    assert settings.home_path == settings.root_path
    found = json.loads(run_main(monkeypatch, capsys, "workspace", "list", "--json")[1])
    assert [one["current"] for one in found] == [True, False]
    code, _, err = run_main(monkeypatch, capsys, "workspace", "use", "other")
    assert (code, err) == (1, "evergreen: there is no workspace 'other', must be one of: sample, shop-1234\n")


def test_a_running_airflow_of_the_workspace_before_is_named(monkeypatch, capsys, settings):
    workspace.choose(settings.root_path, "sample")
    workspace.choose(settings.root_path, "shop-1234")
    monkeypatch.setattr("evergreen.platform.airflow.LocalAirflow.status", lambda _: AirflowStatus("up", "", {}))
    assert "still runs" in run_main(monkeypatch, capsys, "workspace", "use", "sample")[1]


def test_a_full_disk_and_a_forbidden_path_are_one_line(monkeypatch, capsys):
    for error in (OSError(28, "No space left on device"), PermissionError(13, "Permission denied", "/lake")):

        def broken(error: OSError = error, **options: str) -> None:
            raise error

        monkeypatch.setattr(commands, "app", broken)
        code, _, err = run_main(monkeypatch, capsys)
        assert (code, err.count("\n"), err.startswith("evergreen: ")) == (1, 1, True)


def test_interrupting_says_that_nothing_is_lost(monkeypatch, capsys):
    def interrupted(**options: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(commands, "app", interrupted)
    code, _, err = run_main(monkeypatch, capsys)
    assert code == 130
    assert "running it again goes on" in err


def test_errors_of_the_platform_are_one_line(monkeypatch, capsys):
    def broken(**options: str) -> None:
        raise PlatformError("port 8080 is in use")

    monkeypatch.setattr(commands, "app", broken)
    assert run_main(monkeypatch, capsys)[0::2] == (1, "evergreen: port 8080 is in use\n")


OUTCOME = Outcome(
    day=date(2011, 8, 31),
    verdict="promote",
    reasons=["all gates passed"],
    promoted=True,
    champion_version="3",
    challenger_version="3",
    evidence_digest="ab" * 32,
    metrics={"roc_auc": {"value": 0.84, "low": 0.83, "high": 0.85}},
    stages={"ingest": 62.4},
    reports={"evaluation": "/reports/evaluation.html"},
    published={"ingest_transactions": True},
    addresses={"Airflow": "http://127.0.0.1:8080"},
)


def printed(outcome: Outcome) -> str:
    console = Console(width=120)
    with console.capture() as capture:
        show(console, outcome)
    return capture.get()


def test_the_end_of_a_run_tells_verdict_metrics_stages_and_where_to_look():
    text = printed(OUTCOME)
    for part in ("verdict for 2011-08-31: promote", "version 3 is the champion", "0.8400", "ingest 1 min 02 s", "8080"):
        assert part in text


def test_a_day_that_brought_nothing_new_says_so():
    outcome = Outcome(date(2011, 8, 31), "unchanged", ["the challenger is the champion already"], False, "3", "3", "ab")
    assert "nothing new was published" in printed(outcome)
    assert "champion: version 3" in printed(outcome)


def test_the_json_of_a_run_has_the_promised_keys():
    document = OUTCOME.document()
    promised = {"day", "verdict", "champion_version", "challenger_version", "evidence_digest", "metrics", "stages"}
    assert promised | {"reports"} <= set(document)
    assert document["stages"] == {"ingest": 62.4}


@pytest.mark.parametrize(("value", "text"), [(0.4, "0 s"), (59.4, "59 s"), (61, "1 min 01 s"), (754, "12 min 34 s")])
def test_durations_read_as_people_say_them(value, text):
    assert seconds(value) == text
