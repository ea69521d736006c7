"""Settings of the platform: Spark, Airflow, MLflow, logs."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from pydantic import Field

from evergreen.settings.base import Section
from evergreen.settings.machine import this_machine


class LogFormat(StrEnum):
    """How log lines look."""

    AUTO = "auto"
    TEXT = "text"
    JSON = "json"


class LoggingSettings(Section):
    """Logs: JSON for machines, readable lines at a terminal."""

    format: LogFormat = Field(LogFormat.AUTO, description="`auto`: text at a terminal, JSON elsewhere.")
    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="Least severe level that is shown.")


class LakeSettings(Section):
    """Delta tables."""

    location: str = Field("lake", description="Folder or object-store URI of the lake; relative to `home`.")
    retention_days: int = Field(30, ge=1, description="Unpinned versions older than this may be vacuumed.")


class SparkSettings(Section):
    """One Spark session a job."""

    master: str = Field("local[*]", description="Spark master URL.")
    driver_memory_gib: int | Literal["auto"] = Field("auto", description="`auto`: a quarter of this machine's memory.")
    shuffle_partitions: int | Literal["auto"] = Field("auto", description="`auto`: two per core, at least four.")

    @property
    def memory_gib(self) -> int:
        """Driver memory with `auto` resolved, GiB."""
        return this_machine().spark_memory_gib if self.driver_memory_gib == "auto" else self.driver_memory_gib

    @property
    def partitions(self) -> int:
        """Shuffle partitions with `auto` resolved."""
        return this_machine().shuffle_partitions if self.shuffle_partitions == "auto" else self.shuffle_partitions


class AirflowSettings(Section):
    """The local Airflow that `./evergreen up` starts."""

    host: str = Field("127.0.0.1", description="Address that the web UI listens on.")
    port: int = Field(8080, ge=1, le=65535, description="Port of the web UI and REST API.")
    parallelism: int | Literal["auto"] = Field("auto", description="Tasks at once. `auto`: one per core plus one.")

    @property
    def slots(self) -> int:
        """Parallelism with `auto` resolved."""
        return this_machine().cores + 1 if self.parallelism == "auto" else self.parallelism


class MlflowSettings(Section):
    """Experiment tracking and model registry."""

    tracking_uri: str = Field("", description="Empty: SQLite and files under `home/mlflow`.")
    experiment: str = Field("buy-it-again", description="Experiment that training runs are logged to.")
    model_name: str = Field("buy-it-again", description="Name of the registered model.")
    port: int = Field(5000, ge=1, le=65535, description="Port of the local MLflow UI.")
