"""Reports and data docs, served by Airflow's API server to whoever may look at Airflow."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from airflow.api_fastapi.core_api.security import GetUserDep
from fastapi import Depends, FastAPI, HTTPException
from fastapi.responses import FileResponse

from evergreen.settings import load_settings

# A report's scripts run, but not as the person who looks at it: without an origin, Airflow's cookie is out of reach.
HEADERS = {"Content-Security-Policy": "sandbox allow-scripts allow-popups", "X-Content-Type-Options": "nosniff"}

app = FastAPI(title="Evergreen reports", docs_url=None, redoc_url=None, openapi_url=None)


def reports_folder() -> Path:
    """The folder that is served, and nothing above it."""
    return (load_settings().home_path / "reports").resolve()


@app.get("/{path:path}")
def report(path: str, folder: Annotated[Path, Depends(reports_folder)], _user: GetUserDep) -> FileResponse:
    """One file; `index.html` for a folder. 404 for what is not there or lies outside (also by a symbolic link)."""
    file = (folder / path).resolve()
    if file.is_dir():
        file = (file / "index.html").resolve()
    if not file.is_relative_to(folder) or not file.is_file():
        raise HTTPException(404, f"there is no report {path!r}")
    return FileResponse(file, headers=HEADERS)
