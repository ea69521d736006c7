"""Buttons on a task's page. A link's address is an attribute that its operator sets while it runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.sdk import BaseOperatorLink

if TYPE_CHECKING:
    from pathlib import Path

    from airflow.sdk import BaseOperator
    from airflow.sdk.types import TaskInstanceKey

    from evergreen.settings import Settings


class _AttributeLink(BaseOperatorLink):
    """A link to what the operator's attribute holds; no button where it is empty."""

    attribute = ""
    name = ""

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """The address, noted when the task ends, also when it fails."""
        return str(getattr(operator, self.attribute, "") or "")


class DataDocsLink(_AttributeLink):
    """Great Expectations' pages about the staged data."""

    name = "Data Docs"
    attribute = "docs_url"


class QualityLink(_AttributeLink):
    """All checks and the data profile on one page."""

    name = "Quality report"
    attribute = "quality_url"


class ReportLink(_AttributeLink):
    """An HTML report."""

    name = "Report"
    attribute = "report_url"


class CardLink(_AttributeLink):
    """The model card."""

    name = "Model card"
    attribute = "card_url"


class MlflowLink(_AttributeLink):
    """The MLflow run."""

    name = "MLflow run"
    attribute = "mlflow_url"


def report_url(settings: Settings, file: Path | str | None) -> str:
    """Address of a file under `home/reports` at the API server; empty where the file lies elsewhere or is None."""
    from pathlib import Path

    folder = (settings.home_path / "reports").resolve()
    path = Path(file).resolve() if file else folder
    if path == folder or not path.is_relative_to(folder):
        return ""
    return f"{settings.airflow.url}/evergreen/reports/{path.relative_to(folder).as_posix()}"
