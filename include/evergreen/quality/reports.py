"""Where quality reports are kept, and reading them back."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from evergreen.settings import Settings

REPORT = "report.json"


def report_folder(settings: Settings, suite: str, name: str) -> Path:
    """Folder of a suite's report of one run (its identifier, with what no file name holds replaced)."""
    return settings.home_path / "reports" / "quality" / suite / re.sub(r"[^A-Za-z0-9_.+-]+", "-", name)


def read_report(settings: Settings, suite: str, name: str) -> dict[str, Any] | None:
    """The report of a run: `QualityReport.summary()` and `results`; None where there is none."""
    file = report_folder(settings, suite, name) / REPORT
    if not name or not file.is_file():
        return None
    document: dict[str, Any] = json.loads(file.read_text())
    return document
