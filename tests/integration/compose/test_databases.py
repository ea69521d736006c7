"""What the database's image runs once: a database for each part, in UTF-8, closed to the others."""

from __future__ import annotations

import pytest
from sqlalchemy import create_engine, text

from tests.integration.compose.conftest import PARTS, Postgres

pytestmark = pytest.mark.docker


@pytest.mark.parametrize("part", PARTS)
def test_a_part_keeps_any_text_in_a_database_that_no_other_part_may_enter(postgres: Postgres, part: str) -> None:
    with create_engine(postgres.url(part)).begin() as connection:
        assert connection.execute(text("SHOW server_encoding")).scalar() == "UTF8"
        connection.execute(text("CREATE TABLE marks (mark text)"))
        connection.execute(text("INSERT INTO marks VALUES (:mark)"), {"mark": "✓ Zoë"})
        assert connection.execute(text("SELECT mark FROM marks")).scalar() == "✓ Zoë"
    for other in {*PARTS, "postgres"} - {part}:
        assert not postgres.answers(part, other), other
