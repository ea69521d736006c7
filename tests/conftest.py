"""Fixtures that all tests share: a lake, settings and a Spark session that never touch the project's own `var/`."""

from __future__ import annotations

import atexit
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest

from evergreen.lake import Lake
from evergreen.settings import Settings, load_settings
from evergreen.settings.platform import SparkSettings

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

# How long an example takes says nothing on a machine that also does something else.
hypothesis.settings.register_profile(
    "evergreen", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("evergreen")

PROJECT = Path(__file__).resolve().parents[1]


def pytest_configure() -> None:
    """Airflow reads its home when it is first imported: here it gets one that is gone after the run."""
    folder = tempfile.mkdtemp(prefix="evergreen-airflow-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    os.environ.update(
        AIRFLOW_HOME=folder,
        AIRFLOW__CORE__DAGS_FOLDER=str(PROJECT / "dags"),
        AIRFLOW__CORE__PLUGINS_FOLDER=str(PROJECT / "plugins"),
        AIRFLOW__CORE__LOAD_EXAMPLES="False",
        AIRFLOW__CORE__UNIT_TEST_MODE="True",
    )
    folders = [str(PROJECT / name) for name in ("include", "plugins", ".")]
    inherited = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    os.environ["PYTHONPATH"] = os.pathsep.join(
        [*folders, *filter(None, inherited)]
    )  # for the processes that tests start


@cache
def _works(*command: str) -> bool:
    return shutil.which(command[0]) is not None and (
        subprocess.run(command, capture_output=True, timeout=60, check=False).returncode == 0
    )


def _missing(item: pytest.Item) -> str | None:
    """What a marked test needs and this machine does not have."""
    if item.get_closest_marker("docker") and not _works("docker", "info"):
        return "no Docker engine answers here"
    if item.get_closest_marker("gpu") and not _works("nvidia-smi"):
        return "no NVIDIA GPU here"
    if item.get_closest_marker("browser") and not (_works("chromium", "--version") or _works("chrome", "--version")):
        return "no Chromium here"
    return None


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skips what cannot run here, and says why."""
    if reason := _missing(item):
        pytest.skip(reason)


SHORT_HISTORY = {"step_days": 7, "steps": 8}  # training dates of shops that have half a year behind them


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of its own for every test: `load_settings()` points there, in this process and in those that it starts."""
    for name in [name for name in os.environ if name.startswith("EVERGREEN_")]:
        monkeypatch.delenv(name)
    folder = tmp_path / "home"
    monkeypatch.setenv("EVERGREEN_HOME", str(folder))
    for name, value in SHORT_HISTORY.items():
        monkeypatch.setenv(f"EVERGREEN__TRAINING__{name.upper()}", str(value))
    return folder


@pytest.fixture
def settings(home: Path) -> Settings:
    """Settings of the local profile whose home is a temporary folder."""
    return load_settings("local")


@pytest.fixture
def lake(settings: Settings) -> Lake:
    """An empty lake at the settings' place."""
    return Lake(settings.lake_path)


@pytest.fixture(scope="session")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkSession]:
    """One small local Spark session with the jobs' own options for the whole test run (starting one takes seconds)."""
    from pyspark.sql import SparkSession

    from evergreen.features.session import spark_options

    folder = tmp_path_factory.mktemp("spark")
    small = SparkSettings(master="local[2]", driver_memory_gib=2, shuffle_partitions=4)
    builder = SparkSession.builder.appName("evergreen-tests")
    for key, value in spark_options(small).items():
        builder = builder.config(key, value)
    session = (
        builder.config("spark.driver.bindAddress", "127.0.0.1")
        .config("spark.driver.host", "127.0.0.1")
        .config("spark.local.dir", str(folder / "local"))
        .config("spark.sql.warehouse.dir", str(folder / "warehouse"))
        .getOrCreate()
    )
    session.sparkContext.setLogLevel("ERROR")
    yield session
    session.stop()
