"""`reproduce`: makes a past version again and compares digests."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from evergreen.cli.console import console, print_json, progress_console, seconds
from evergreen.cli.options import AsJson
from evergreen.errors import ReproductionError
from evergreen.settings import load_settings

if TYPE_CHECKING:
    from evergreen.promotion.reproduction import Reproduction

STYLES = {"equal": "green", "within tolerance": "green", "different": "red"}


def reproduce(
    version: Annotated[str, typer.Argument(metavar="VERSION", help="Number in the model registry, such as 1.")],
    keep: Annotated[
        Path | None,
        typer.Option("--keep", metavar="FOLDER", help="Keep the rebuilt training set and bundle there. Default: no."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make a past version again from what it pins, and compare digests.

    Its training set is joined anew from the lake at the pinned table versions, its candidate trained anew with the same
    spec. Exit code 1 names the first difference.
    """
    from evergreen.promotion.reproduction import reproduce as make_again

    settings = load_settings()
    began = perf_counter()
    if keep is not None and keep.exists() and any(keep.iterdir()):
        raise ReproductionError(f"{keep} is not empty, expected a new folder: name another one")
    drafts = settings.home_path / "reproductions"
    drafts.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(dir=drafts))
    try:
        made = make_again(settings, version, work, train=train, say=lambda text: progress_console.print(text))
        if keep is not None:
            keep.parent.mkdir(parents=True, exist_ok=True)
            shutil.copytree(work, keep, dirs_exist_ok=True)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    took = perf_counter() - began
    if as_json:
        lines = [asdict(line) for line in made.comparisons]
        print_json({"version": version, "reproduced": made.reproduced, "seconds": round(took, 1), "compared": lines})
    else:
        show(made)
    made.raise_if_different()
    if not as_json:
        how = "bit for bit" if made.bit_equal else "within the tolerance"
        console.print(f"version {version} is reproduced {how} in {seconds(took)}", soft_wrap=True)


def show(made: Reproduction) -> None:
    """What was compared, as a table; why, where something is not equal."""
    table = Table(title=f"Version {made.version}", title_justify="left")
    table.add_column("compared", no_wrap=True)
    for heading in ("recorded", "made again", ""):
        table.add_column(heading)
    for line in made.comparisons:
        detail = f": {line.detail}" if line.detail and line.outcome != "equal" else ""
        outcome = f"[{STYLES.get(line.outcome, 'yellow')}]{line.outcome}[/]{detail}"
        table.add_row(line.what, _short(line.recorded), _short(line.rebuilt), outcome)
    console.print(table)


def train(spec: Mapping[str, Any], out: Path) -> dict[str, Any]:
    """Runs the trainer as its tasks do, in a process of its own, and gives its result.

    Raises:
        ReproductionError: it refused or died; its own last line.
    """
    file = out.with_name("spec.json")
    file.write_text(json.dumps(dict(spec)))
    command = [sys.executable, "-m", "evergreen.jobs.train", "--spec", str(file), "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        said = [line.removeprefix("evergreen: ") for line in done.stderr.splitlines() if line.strip()]
        raise ReproductionError(f"the trainer ended with code {done.returncode}: {said[-1] if said else 'no word'}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def _short(text: str) -> str:
    """Digests by their first twelve digits, all else as it is."""
    return text[:12] if len(text) >= 40 and " " not in text else text
