"""`backup` and `restore`: everything that cannot be made again from the source, and the way back."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from evergreen.cli.console import console, print_json, progress_console
from evergreen.cli.options import AsJson
from evergreen.errors import BackupError
from evergreen.settings import load_settings

if TYPE_CHECKING:
    from evergreen.backup.steps import Steps


def backup(
    verify: Annotated[
        Path | None, typer.Option("--verify", metavar="FOLDER", help="Make none: check every digest of this one.")
    ] = None,
    drill: Annotated[
        bool, typer.Option("--drill", help="Make none: restore the newest into a folder that is removed again.")
    ] = False,
    listed: Annotated[bool, typer.Option("--list", help="Make none: show those that there are.")] = False,
    with_reports: Annotated[bool, typer.Option("--with-reports", help="Evaluations and reports too.")] = False,
    with_airflow: Annotated[bool, typer.Option("--with-airflow", help="Airflow's own records too.")] = False,
    as_json: AsJson = False,
) -> None:
    """Back up ledger, registries, models, evidence, training sets and the lake's released versions.

    The online store is left out: it is made anew from the lake. Secrets are left out. Files that the backup before
    holds are not copied again. `settings.backup` says where backups lie and how many are kept.
    """
    from evergreen.backup import check, make, restore
    from evergreen.backup.steps import Steps

    if sum((verify is not None, drill, listed)) > 1:
        raise BackupError("--verify, --drill and --list were given together: expected one of them")
    settings, steps = load_settings(), Steps(_say)
    if listed:
        _show_list(as_json=as_json)
        return
    if verify is not None:
        manifest, folder = check.verify(settings, verify, steps), verify
    elif drill:
        tried = restore.drill(settings, steps)
        manifest, folder = tried.manifest, tried.backup
    else:
        made = make.make_backup(settings, steps, with_reports=with_reports, with_airflow=with_airflow)
        manifest, folder = made.manifest, made.folder
    if as_json:
        print_json(_document(folder, steps) | {"digest": manifest.digest, "bytes": manifest.size})
        return
    _show(steps)
    word = "is whole" if verify is not None else "can be restored" if drill else "was made"
    console.print(f"backup {folder} {word}: ledger head {manifest.ledger['head']}", soft_wrap=True)
    for one in manifest.left_out if verify is None and not drill else ():
        console.print(f"  left out: {one['what']}: {one['why']}", soft_wrap=True)


def restore(
    folder: Annotated[
        Path | None, typer.Argument(metavar="FOLDER", help="A backup. Default: the newest of this workspace.")
    ] = None,
    to: Annotated[Path | None, typer.Option("--to", metavar="HOME", help="Into another home.")] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Move what is there aside; without this the home must be empty.")
    ] = False,
    artefacts: Annotated[
        bool,
        typer.Option(
            "--artefacts", help="Only files of models and evidence that are missing or altered; nothing has to be down."
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Put a backup in place: verified before anything is touched, checked before it is put in place."""
    from evergreen.backup import mend
    from evergreen.backup import restore as restoring
    from evergreen.backup.places import newest_to_restore
    from evergreen.backup.steps import Steps

    if artefacts and (to or replace):
        raise BackupError("--artefacts was given with --to or --replace: expected it alone, it mends the home in place")
    settings, steps = load_settings(), Steps(_say)
    chosen = folder or newest_to_restore(settings)
    if artefacts:
        mended = mend.mend(settings, chosen, steps)
        if as_json:
            print_json(_document(chosen, steps) | {"put_back": list(mended.files)})
            return
        _show(steps)
        for name in mended.files:
            console.print(f"  put back: {name}", soft_wrap=True, markup=False)
        console.print(f"models and evidence are those of {chosen}, and what came later", soft_wrap=True)
        return
    done = restoring.restore(settings, chosen, steps, to=to, replace=replace)
    if as_json:
        aside = str(done.aside) if done.aside else None
        print_json(_document(chosen, steps) | {"home": str(done.home), "aside": aside, "notes": done.notes})
        return
    _show(steps)
    console.print(f"restored {chosen} into {done.home}", soft_wrap=True)
    if done.aside:
        console.print(f"what was there lies in {done.aside}: remove it when nobody misses it", soft_wrap=True)
    for note in done.notes:
        console.print(f"  {note}", soft_wrap=True)
    other = f"EVERGREEN_HOME={done.home} " if to else ""
    commands = [f"{other}./evergreen up", *([f"{other}{done.materialize}"] if done.materialize else [])]
    console.print("next:")
    for command, why in zip(commands, ("", "  # fills the online store"), strict=False):
        console.print(f"  {command}{why}", soft_wrap=True, markup=False)


def _say(text: str) -> None:
    progress_console.print(f"  {text}")


def _document(folder: Path, steps: Steps) -> dict[str, Any]:
    return {"backup": str(folder), "steps": steps.rows(), "seconds": round(sum(steps.seconds.values()), 3)}


def _show(steps: Steps) -> None:
    table = Table()
    for heading in ("step", "seconds", "what"):
        table.add_column(heading, justify="right" if heading == "seconds" else "left")
    for one in steps.done:
        table.add_row(one.step, f"{one.seconds:.1f}", one.detail)
    console.print(table)


def _show_list(*, as_json: bool) -> None:
    from evergreen.backup.manifest import is_whole, read_manifest
    from evergreen.backup.places import backups, backups_folder

    folder = backups_folder(load_settings())
    rows = []
    for path in backups(folder):
        row: dict[str, Any] = {"backup": str(path), "whole": is_whole(path)}
        if row["whole"]:
            manifest = read_manifest(path)
            champion = (manifest.champion or {}).get("version", "")
            row |= {"bytes": manifest.size, "champion": champion, "ledger_head": manifest.ledger["head"]}
        rows.append(row)
    if as_json:
        print_json(rows)
        return
    for row in rows:
        told = f"{row['bytes'] / 1e6:,.1f} MB, champion {row['champion'] or 'none'}" if row["whole"] else "NOT whole"
        console.print(f"{row['backup']}  {told}", soft_wrap=True)
    if not rows:
        console.print(f"no backup in {folder} yet: ./evergreen backup makes one", soft_wrap=True)
