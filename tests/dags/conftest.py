"""One DagBag a session: parsing costs seconds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from airflow.dag_processing.dagbag import DagBag

PROJECT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def dag_bag() -> DagBag:
    """All DAGs of the project, parsed as Airflow's DAG processor does."""
    from airflow.dag_processing.dagbag import DagBag

    return DagBag(str(PROJECT / "dags"))
