"""`features`, `score` and `sample`: data in and out by hand."""

from __future__ import annotations

import subprocess
import sys
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from evergreen.cli.console import console, print_json, progress_console
from evergreen.cli.options import AsJson, AsOf, OutFile
from evergreen.errors import EvergreenError, SourceError
from evergreen.settings import Settings, load_settings

if TYPE_CHECKING:
    import pandas as pd


def features(
    as_of: AsOf,
    out: OutFile,
    pairs: Annotated[
        Path | None,
        typer.Option("--pairs", metavar="FILE", help="CSV or Parquet: customer_id, product_id. Default: all active."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write point-in-time features of (customer, product) pairs."""
    from evergreen.features.store import historical_features
    from evergreen.lake import Lake
    from evergreen.models.inputs import pinned_features
    from evergreen.models.pairs import active_pairs

    settings = load_settings()
    lake = Lake(settings.lake_path)
    asked = None if pairs is None else _read_pairs(pairs)
    ensure_features(settings, as_of - timedelta(days=1))
    pinned = pinned_features(lake, as_of - timedelta(days=1), [as_of])
    if asked is None:
        table = lake.table("pair_features", pinned.versions["pair_features"])
        asked = active_pairs(table, as_of, settings.training.active_days).to_pandas()
    found = historical_features(settings, pinned.versions, asked.assign(as_of=as_of))
    out.parent.mkdir(parents=True, exist_ok=True)
    draft = out.with_name(f".{out.name}.draft")
    found.to_parquet(draft, index=False)
    draft.replace(out)
    summary = {"out": str(out), "rows": len(found), "columns": len(found.columns), "as_of": str(as_of)}
    if as_json:
        print_json(summary)
    else:
        console.print(f"{len(found):,} pairs as of {as_of}, {len(found.columns)} columns: {out}", soft_wrap=True)


def score(
    as_of: AsOf,
    out: OutFile,
    reasons: Annotated[
        int,
        typer.Option(
            "--reasons",
            min=0,
            max=10,
            metavar="N",
            help="Add a column with N reasons of each customer's best products.",
        ),
    ] = 0,
    as_json: AsJson = False,
) -> None:
    """Write the champion's ranked predictions: customer_id, product_id, probability, rank, model_version."""
    from evergreen.evaluation.explanations.predictions import with_reasons
    from evergreen.lake import Lake
    from evergreen.models.scoring import publish_predictions, read_predictions, write_predictions
    from evergreen.promotion.deployment import load_champion

    settings = load_settings()
    champion, bundle = load_champion(settings)
    ensure_features(settings, as_of - timedelta(days=1))
    published = publish_predictions(settings, as_of, bundle, model_version=champion.version)
    rows = read_predictions(Lake(settings.lake_path), as_of)
    if reasons:
        rows = with_reasons(settings, as_of, bundle, rows, reasons)
    write_predictions(rows, out)
    if as_json:
        print_json(published | {"out": str(out), "rows": rows.num_rows})
    else:
        console.print(
            f"{rows.num_rows:,} pairs as of {as_of} scored by version {champion.version}: {out}", soft_wrap=True
        )


def sample(
    rows: Annotated[int, typer.Option("--rows", min=10_000, max=100_000_000, help="Purchase lines, about.")],
    out: OutFile,
    seed: Annotated[int | None, typer.Option("--seed", min=0, help="Same seed, same lines.")] = None,
) -> None:
    """Write a generated shop's purchase lines, dirt included, in the columns of UCI Online Retail II."""
    from evergreen.ingest.sample import write_sample

    settings = load_settings().sample
    settings = settings.model_copy(update={"lines": rows} | ({} if seed is None else {"seed": seed}))
    written = write_sample(settings, out)
    console.print(f"{written:,} lines of {settings.first_day} to {settings.day}: {out}", soft_wrap=True)


def ensure_features(settings: Settings, day: date) -> None:
    """Builds and publishes the features of a day where its snapshots are missing or its input changed.

    Raises:
        EvergreenError: the day is not in the lake, or the job failed.
    """
    from evergreen.features.build import plan_build

    if plan_build(settings, day).nothing:
        return
    progress_console.print(f"building the features as of {day + timedelta(days=1)}")
    command = [sys.executable, "-m", "evergreen.jobs.build_features", "--day", str(day), "--publish"]
    done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise EvergreenError(_last_line(done.stderr))


def _last_line(text: str) -> str:
    lines = [line.removeprefix("evergreen: ") for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "the job ended without a word"


def _read_pairs(file: Path) -> pd.DataFrame:
    import pandas as pd

    if not file.exists():
        raise SourceError(f"{file} does not exist, expected a CSV or Parquet file with customer_id and product_id")
    frame = pd.read_parquet(file) if file.suffix == ".parquet" else pd.read_csv(file, dtype=str)
    if missing := {"customer_id", "product_id"} - set(frame.columns):
        raise SourceError(
            f"{file} lacks {' and '.join(sorted(missing))}, it has {', '.join(map(str, frame.columns))}; expected "
            "customer_id and product_id"
        )
    return frame[["customer_id", "product_id"]].astype(str)
