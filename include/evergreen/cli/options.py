"""Options that several commands share."""

from __future__ import annotations

from datetime import date, datetime
from pathlib import Path
from typing import Annotated

import typer


def parse_day(text: str) -> date:
    """An ISO date; anything else is a usage error that says so."""
    try:
        return datetime.strptime(text, "%Y-%m-%d").date()
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no day, expected YYYY-MM-DD such as 2011-08-31") from None


AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON line instead of text.")]
AsOf = Annotated[
    date,
    typer.Option(
        "--as-of", parser=parse_day, metavar="DAY", help="Everything before this day 00:00 UTC counts, nothing after."
    ),
]
Day = Annotated[
    date | None,
    typer.Option("--day", parser=parse_day, metavar="DAY", help="Day of data. Default: the newest that makes sense."),
]
OutFile = Annotated[Path, typer.Option("--out", metavar="FILE", help="Parquet file to write.")]
SourceOption = Annotated[
    str,
    typer.Option(
        "--source",
        metavar="SOURCE",
        help="File (.xlsx, .csv, .csv.gz, .parquet), folder of daily drops or SQLAlchemy URL. Default: the one "
        "that was run last, else the generated sample.",
    ),
]
