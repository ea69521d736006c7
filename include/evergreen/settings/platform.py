"""Settings of the platform: Spark, Airflow, MLflow, logs."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from pydantic import Field, field_validator, model_validator

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

    location: str = Field(
        "lake",
        description="Folder of the lake, relative to `home`. No URI: files are renamed and read in place.",
    )
    retention_days: int = Field(30, ge=1, description="Unpinned versions older than this may be vacuumed.")

    @field_validator("location")
    @classmethod
    def _is_a_folder(cls, location: str) -> str:
        if "://" in location:
            raise ValueError("the lake is a folder, a URI such as of an object store cannot be used: give a path")
        return location


class SparkSettings(Section):
    """One Spark session a job."""

    master: str = Field("local[*]", description="Spark master URL.")
    driver_memory_gib: int | Literal["auto"] = Field("auto", description="`auto`: a quarter of this machine's memory.")
    executor_memory_gib: int = Field(2, ge=1, description="Memory of an executor. On `local[...]` there is none.")
    event_log_folder: str = Field("", description="Folder of Spark's event logs, absolute. Empty: none are kept.")
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

    heavy_slots: int = Field(
        1, ge=1, description="Spark jobs and trainers at once: each wants a good part of the memory."
    )
    login: Literal["auto", "none", "password"] = Field(
        "auto",
        description="`none`: who reaches the port is admin. `password`: users and generated passwords in "
        "`home/airflow/passwords.json`. `auto`: `none` while `host` is this machine alone and no approvers are named.",
    )
    triggerer: bool = Field(False, description="Also run a triggerer. Needed as soon as a task defers; none here does.")
    start_seconds: float = Field(120.0, gt=0, description="Airflow must be healthy so many seconds after its start.")

    @property
    def slots(self) -> int:
        """Parallelism with `auto` resolved."""
        return this_machine().cores + 1 if self.parallelism == "auto" else self.parallelism

    @property
    def is_loopback(self) -> bool:
        """True where only this machine can reach the web UI."""
        return self.host in ("127.0.0.1", "::1", "localhost")

    @property
    def url(self) -> str:
        """Address of the web UI as seen from this machine."""
        host = "127.0.0.1" if self.host in ("0.0.0.0", "") else "[::1]" if self.host in ("::", "::1") else self.host
        return f"http://{host}:{self.port}"

    @model_validator(mode="after")
    def _no_open_door(self) -> AirflowSettings:
        if self.login == "none" and not self.is_loopback:
            raise ValueError(f"login 'none' would let everyone who reaches {self.host} in: use 'password' or 127.0.0.1")
        return self


class MlflowSettings(Section):
    """Experiment tracking and model registry."""

    tracking_uri: str = Field("", description="Empty: SQLite and files under `home/mlflow`.")
    experiment: str = Field("buy-it-again", description="Experiment that training runs are logged to.")
    model_name: str = Field("buy-it-again", description="Name of the registered model.")
    port: int = Field(5000, ge=1, le=65535, description="Port of the local MLflow UI.")
