"""Secrets of a deployment: generated once, kept as files, checked before every start.

The folder is for its owner alone. The files in it can be read by everybody who gets past the folder, since they are
mounted one by one into containers whose users are not the folder's owner.
"""

from __future__ import annotations

import json
import os
import secrets
from base64 import urlsafe_b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from evergreen.errors import DeployError

USERS = {"viewer": "viewer", "operator": "op", "approver": "user", "admin": "admin"}
"""Who may log in to Airflow, with Airflow's names of their roles."""

SHORTEST = 12


def _token() -> str:
    return secrets.token_urlsafe(24)


def _fernet() -> str:
    return urlsafe_b64encode(secrets.token_bytes(32)).decode()


GENERATED: dict[str, Callable[[], str]] = {
    "postgres_password": _token,
    "airflow_db_password": _token,
    "mlflow_db_password": _token,
    "feast_db_password": _token,
    "ledger_db_password": _token,
    "redis_password": _token,
    "mlflow_password": _token,
    "mlflow_secret_key": _token,
    "airflow_fernet_key": _fernet,
    "airflow_secret_key": _token,
    "airflow_jwt_secret": lambda: secrets.token_urlsafe(64),
    "grafana_password": _token,
    **{f"airflow_{user}_password": _token for user in USERS},
}
"""Secrets by the name of their file, and what makes a new one."""


def _database(name: str) -> Callable[[Mapping[str, str]], str]:
    return lambda known: f"postgresql+psycopg2://{name}:{known[f'{name}_db_password']}@postgres:5432/{name}"


def _redis(database: int) -> Callable[[Mapping[str, str]], str]:
    return lambda known: f"redis://:{known['redis_password']}@redis:6379/{database}"


DERIVED: dict[str, Callable[[Mapping[str, str]], str]] = {
    "airflow_db_url": _database("airflow"),
    "mlflow_db_url": _database("mlflow"),
    "feast_db_url": _database("feast"),
    "ledger_db_url": _database("ledger"),
    "celery_url": _redis(0),
    "online_store_url": _redis(1),
    "redis.conf": lambda known: f"requirepass {known['redis_password']}\n",
    "mlflow_credentials": lambda known: (
        f"[mlflow]\nmlflow_tracking_username = admin\nmlflow_tracking_password = {known['mlflow_password']}\n"
    ),
    "mlflow_auth.ini": lambda known: (
        "[mlflow]\ndefault_permission = READ\n"
        f"database_uri = {DERIVED['mlflow_db_url'](known)}\n"
        f"admin_username = admin\nadmin_password = {known['mlflow_password']}\n"
        "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n"
    ),
    "airflow_passwords.json": lambda known: json.dumps({user: known[f"airflow_{user}_password"] for user in USERS}),
}
"""Files made from the secrets, in the form in which a service reads them."""


@dataclass(frozen=True)
class Secrets:
    """The folder of one deployment's secrets."""

    folder: Path

    @property
    def complete(self) -> bool:
        """True where every file is there."""
        return all((self.folder / name).is_file() for name in (*GENERATED, *DERIVED))

    def make(self) -> list[str]:
        """Generates what is missing, writes the derived files anew, and gives the names of what was generated."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.folder.chmod(0o700)
        missing = [name for name in GENERATED if not (self.folder / name).is_file()]
        for name in missing:
            self._write(name, GENERATED[name]())
        known = {name: self.read(name) for name in GENERATED}
        for name, derive in DERIVED.items():
            self._write(name, derive(known))
        return missing

    def read(self, name: str) -> str:
        """A secret.

        Raises:
            DeployError: its file cannot be read.
        """
        try:
            return (self.folder / name).read_text().strip()
        except OSError as error:
            raise DeployError(f"secret {self.folder / name} cannot be read: {error.strerror}") from None

    def check(self) -> None:
        """Refuses what would let anybody in.

        Raises:
            DeployError: naming the file: missing, empty, easy to guess, used twice, or open to others.
        """
        if not self.folder.is_dir():
            raise DeployError(f"there are no secrets in {self.folder}: ./evergreen deploy --secrets makes them")
        if self.folder.stat().st_mode & 0o077:
            raise DeployError(f"{self.folder} is open to others, must be its owner's alone: chmod 700 {self.folder}")
        seen: dict[str, str] = {}
        for name in GENERATED:
            value = self.read(name) if (self.folder / name).exists() else ""
            if why := _weakness(value):
                raise DeployError(f"secret {self.folder / name} {why}: remove it, then ./evergreen deploy --secrets")
            if value in seen:
                raise DeployError(f"secrets {seen[value]} and {name} in {self.folder} are the same, must differ")
            seen[value] = name
        for name, derive in DERIVED.items():
            known = {secret: self.read(secret) for secret in GENERATED}
            if not (self.folder / name).exists() or self.read(name) != derive(known).strip():
                raise DeployError(f"{self.folder / name} does not fit the secrets: ./evergreen deploy --secrets")

    def _write(self, name: str, content: str) -> None:
        draft = self.folder / f".{name}"
        draft.unlink(missing_ok=True)
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o444), "w") as file:
            file.write(content)
        draft.chmod(0o444)  # whatever the umask says
        draft.replace(self.folder / name)


def _weakness(value: str) -> str:
    if not value:
        return "is missing or empty"
    if len(value) < SHORTEST or len(set(value)) < SHORTEST // 2:
        return f"is too easy to guess, must have {SHORTEST} characters or more, not always the same ones"
    return ""
