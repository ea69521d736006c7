"""PostgreSQL's databases of an environment: asked, dumped and put back in its container, which alone reaches them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from evergreen.deploy.engine import Engine

DATABASES = ("airflow", "mlflow", "feast", "ledger")
"""Databases, each owned by a role of its name."""

DRAFT, REPLACED = "_draft", "_replaced"
_AS_OWNER = ["sh", "-c", 'PGPASSWORD=$(cat /run/secrets/postgres_password) exec "$0" -h 127.0.0.1 -U postgres "$@"']
_PSQL = ["psql", "-X", "-q", "-At", "-v", "ON_ERROR_STOP=1"]


@dataclass(frozen=True)
class Databases:
    """The databases in one running container of PostgreSQL."""

    engine: Engine
    container: str

    def ask(self, database: str, sql: str) -> list[str]:
        """Runs statements, each by itself, and gives the rows: columns are parted by `|`.

        Raises:
            DeployError: with PostgreSQL's own words.
        """
        return self._run([*_PSQL, "-d", database], given=sql).splitlines()

    def schema(self, database: str) -> str:
        """What its owner's migrations brought it to (Alembic's revisions); empty where nobody migrates it."""
        tables = self.ask(
            database,
            "SELECT table_name FROM information_schema.tables "
            "WHERE table_schema = 'public' AND table_name LIKE 'alembic\\_version%' ORDER BY 1",
        )
        return " ".join(row for table in tables for row in self.ask(database, f'SELECT version_num FROM "{table}"'))

    def dump(self, database: str, file: Path) -> None:
        """Writes one consistent state of a database to a file, in PostgreSQL's custom format.

        Lightly compressed: the time of a deployment matters more than the size of a few files.
        """
        self._run(["pg_dump", "-Fc", "-Z", "1", "-d", database], to=file)

    def put_back(self, dumps: Mapping[str, Path]) -> None:
        """Replaces databases by what was dumped, all of them or none.

        Each dump is read into a draft first; then all drafts take their names in one transaction, and sessions of the
        old ones are ended. Whatever fails before that leaves the databases as they were, and doing it again is safe.

        Raises:
            DeployError: a dump cannot be read, or PostgreSQL refused.
        """
        for name, file in dumps.items():
            self.ask("postgres", f"DROP DATABASE IF EXISTS {name}{DRAFT} WITH (FORCE);")
            self.ask(
                "postgres", f"CREATE DATABASE {name}{DRAFT} OWNER {name} ENCODING 'UTF8' LOCALE 'C' TEMPLATE template0;"
            )
            self.ask("postgres", f"REVOKE ALL ON DATABASE {name}{DRAFT} FROM PUBLIC;")
            self._run(["pg_restore", "--exit-on-error", "-d", f"{name}{DRAFT}"], given=file)
        for name in dumps:
            self.ask("postgres", f"DROP DATABASE IF EXISTS {name}{REPLACED} WITH (FORCE);")
        sessions = ", ".join(f"'{name}', '{name}{DRAFT}'" for name in dumps)
        renames = [
            f"ALTER DATABASE {name} RENAME TO {name}{REPLACED}; ALTER DATABASE {name}{DRAFT} RENAME TO {name};"
            for name in dumps
        ]
        self.ask(
            "postgres",
            f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname IN ({sessions});"
            f"BEGIN; {' '.join(renames)} COMMIT;",
        )
        for name in dumps:
            self.ask("postgres", f"DROP DATABASE {name}{REPLACED} WITH (FORCE);")

    def _run(self, command: list[str], *, given: str | Path = "", to: Path | None = None) -> str:
        return self.engine.run_in(self.container, [*_AS_OWNER, *command], user="postgres", given=given, to=to)
