from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from evergreen_airflow import benchmarks
from evergreen_airflow.benchmarks import DAGS, dag_parse, main, parse_seconds


def seconds(figures: dict[str, list[float]]):
    """Gives the figures of each file in turn; the first one of each is the warm-up."""
    turns = {name: iter(values) for name, values in figures.items()}
    return lambda file: next(turns[file.stem])


@pytest.fixture
def two_dags(tmp_path: Path) -> Path:
    for name in ("quick", "slow"):
        (tmp_path / f"{name}.py").touch()
    return tmp_path


def test_ratios_are_of_medians_and_the_warm_up_does_not_count(two_dags):
    measure = seconds({"empty": [9, 1.0, 1.0, 2.0], "quick": [9, 1.1, 9.9, 1.1], "slow": [9, 1.2, 1.3, 1.4]})
    report = dag_parse(3, two_dags, measure)
    assert report["dags"] == {"quick": {"seconds": 1.1, "ratio": 1.1}, "slow": {"seconds": 1.3, "ratio": 1.3}}
    assert (report["worst"], report["passed"], report["peer_seconds"]) == ("slow", False, 1.0)


def test_within_the_goal_it_passes(two_dags):
    report = dag_parse(1, two_dags, seconds({"empty": [1, 1.0], "quick": [1, 1.0], "slow": [1, 1.25]}))
    assert report["passed"] is True


def test_the_command_prints_and_writes_json_and_tells_by_its_code(tmp_path, monkeypatch, capsys):
    for passed, code in ((True, 0), (False, 1)):
        monkeypatch.setattr(
            benchmarks, "dag_parse", lambda repeats, passed=passed: {"repeats": repeats, "passed": passed}
        )
        assert main(["--repeats", "2", "--out", str(tmp_path / "made" / "parse.json")]) == code
        told = json.loads(capsys.readouterr().out)
        assert told == json.loads((tmp_path / "made" / "parse.json").read_text()) == {"repeats": 2, "passed": passed}


def test_a_real_dag_is_parsed_and_a_broken_one_is_an_error(tmp_path):
    assert parse_seconds(DAGS / "score_batch.py") > 0
    (tmp_path / "broken.py").write_text("import nothing_of_that_name")
    with pytest.raises(subprocess.CalledProcessError):
        parse_seconds(tmp_path / "broken.py")
