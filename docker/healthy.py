"""Health checks of services, as cheap as they can be: exit code 0 where the service is well.

healthy.py URL            it answers with 200
healthy.py URL PART       and its JSON says that this part is healthy (Airflow's own view of its parts)
healthy.py celery         this container's Celery worker answers a ping
"""

import json
import socket
import sys
import urllib.request
from pathlib import Path

SECONDS = 5.0


def main(what: str, part: str = "") -> int:
    """Looks once."""
    if what == "celery":
        from celery import Celery

        app = Celery(broker=Path("/run/secrets/celery_url").read_text().strip())
        return 0 if app.control.ping(destination=[f"celery@{socket.gethostname()}"], timeout=SECONDS) else 1
    with urllib.request.urlopen(what, timeout=SECONDS) as answer:
        if not part:
            return 0
        return 0 if json.load(answer)[part]["status"] == "healthy" else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
