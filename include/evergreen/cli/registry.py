"""`rollback` and `ledger`: what was promoted, by whom, on which evidence, and how to go back."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer
from rich.table import Table

from evergreen.cli.console import console, print_json
from evergreen.cli.options import AsJson
from evergreen.settings import load_settings

ledger = typer.Typer(help="The append-only record of what was done to models.", no_args_is_help=True)


def rollback(
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why, for the ledger.")],
    to: Annotated[str, typer.Option("--to", metavar="VERSION", help="Default: the version before.")] = "",
    as_json: AsJson = False,
) -> None:
    """Make an earlier champion the champion again. The version that is left is barred until it is released by name."""
    from evergreen.promotion.ledger import current_user
    from evergreen.promotion.registry_mirror import mirror_champion
    from evergreen.promotion.rollback import rollback as roll_back

    settings = load_settings()
    champion = roll_back(settings, to or None, reason=reason, user=current_user())
    mirror_champion(settings, champion)
    if as_json:
        print_json(asdict(champion))
    else:
        console.print(
            f"champion: version {champion.version} (generation {champion.generation}), data of {champion.data_day}"
        )


@ledger.command("show")
def show(
    last: Annotated[int, typer.Option("--last", min=1, help="Number of entries.")] = 20, as_json: AsJson = False
) -> None:
    """Show the newest entries, oldest first."""
    from evergreen.promotion.ledger import Ledger

    entries = Ledger(load_settings()).entries()[-last:]
    if as_json:
        print_json([{"sequence": sealed.sequence, "hash": sealed.hash, **asdict(sealed.entry)} for sealed in entries])
        return
    table = Table(title="Ledger", title_justify="left")
    for heading in ("#", "time (UTC)", "user", "operation", "version", "outcome", "detail", "hash"):
        table.add_column(heading, justify="right" if heading == "#" else "left")
    for sealed in entries:
        entry = sealed.entry
        style = "green" if entry.outcome == "success" else "red"
        table.add_row(
            str(sealed.sequence),
            entry.timestamp[:19].replace("T", " "),
            entry.user,
            entry.operation,
            entry.model_version,
            f"[{style}]{entry.outcome}[/]",
            entry.error_detail,
            sealed.hash[:10],
        )
    console.print(table)


@ledger.command("release")
def release(
    version: Annotated[str, typer.Argument(metavar="VERSION", help="A version that a rollback barred.")],
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why, for the ledger.")],
) -> None:
    """Let a version that was rolled back be promoted again. It needs a new judgement and a new approval."""
    from evergreen.promotion.ledger import current_user
    from evergreen.promotion.rollback import release_barred

    release_barred(load_settings(), version, reason=reason, user=current_user())
    console.print(f"version {version} may be judged and promoted again", soft_wrap=True)


@ledger.command("verify")
def verify(
    head: Annotated[str, typer.Option("--head", metavar="HASH", help="A hash noted elsewhere: it must be in it.")] = "",
    as_json: AsJson = False,
) -> None:
    """Check the chain, its mirror, the champions and their evidence: any edit is named; exit code 1 then."""
    from evergreen.promotion import audit

    found = audit.verify(load_settings(), head=head or None)
    if as_json:
        print_json(asdict(found))
    found.raise_if_broken()
    if not as_json:
        console.print(f"{found.entries} entries, unbroken, head {found.head}", soft_wrap=True)
