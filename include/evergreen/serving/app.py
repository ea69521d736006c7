"""The HTTP service: its health, told honestly."""

from __future__ import annotations

import json
from typing import Any

from fastapi import FastAPI

from evergreen import __version__
from evergreen.promotion.deployment import pointer_path
from evergreen.settings import Settings, load_settings


def create_app(settings: Settings | None = None) -> FastAPI:
    """The service. `uvicorn --factory evergreen.serving.app:create_app` runs it."""
    given = settings or load_settings()
    app = FastAPI(title="Evergreen", version=__version__, docs_url=None, redoc_url=None, openapi_url=None)

    @app.get("/health")
    def health() -> dict[str, Any]:
        """200 while the process answers; `status` says that no model is loaded, `champion` which one would be."""
        return {"status": "no model", "model": None, "champion": promoted(given), "version": __version__}

    return app


def promoted(settings: Settings) -> dict[str, Any] | None:
    """Version and bundle that the pointer of serving names, None before the first promotion."""
    try:
        pointer = json.loads(pointer_path(settings).read_text())
        return {name: pointer[name] for name in ("version", "generation", "bundle_digest")}
    except (FileNotFoundError, KeyError, TypeError, ValueError):
        return None
