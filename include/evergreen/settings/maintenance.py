"""Settings of the weekly clean-up."""

from __future__ import annotations

from pydantic import Field

from evergreen.settings.base import Section


class MaintenanceSettings(Section):
    """Settings of the weekly clean-up. How long the lake keeps versions is `settings.lake.retention_days`."""

    leftover_days: int = Field(
        2, ge=1, description="What a killed task left half-written is removed when it is older; tasks end within hours."
    )
    log_days: int = Field(60, ge=1, description="Logs of tasks and of the DAG processor are kept so long.")
    history_days: int = Field(
        180, ge=7, description="Airflow's own records of runs and tasks are kept so long. The ledger keeps everything."
    )
