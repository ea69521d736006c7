"""Back to a version that served before, in seconds: a new generation, so that promotions prepared earlier are void."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from time import perf_counter

from sqlalchemy import delete, insert, select

from evergreen.errors import PromotionRefusedError
from evergreen.promotion import deployment
from evergreen.promotion.champion import (
    ROLLBACK,
    Champion,
    add_champion,
    bundle_folder,
    read_current,
    read_history,
)
from evergreen.promotion.database import BARRED
from evergreen.promotion.ledger import FAILURE, SUCCESS, Entry, Ledger
from evergreen.settings import Settings


def rollback(settings: Settings, to: str | None = None, *, reason: str, user: str) -> Champion:
    """Makes an earlier champion the champion again, bars the present one, and points serving back.

    Args:
        settings: home and model name.
        to: a version that was champion; by default the newest earlier one that is not barred.
        reason: why, for the ledger and for who wants to release the version later.
        user: who rolls back.

    Raises:
        PromotionRefusedError: there is no such version to go back to. The refusal is in the ledger.
    """
    began = perf_counter()
    if not reason.strip():
        raise PromotionRefusedError("a rollback needs a reason: whoever releases the version later will read it")
    now = datetime.now(UTC)
    model_name = settings.mlflow.model_name
    with Ledger(settings).transaction() as transaction:
        connection = transaction.connection
        present = read_current(connection, model_name)
        rows = connection.execute(select(BARRED.c.version).where(BARRED.c.model_name == model_name))
        target, refusal = _target(present, read_history(connection, model_name), set(rows.scalars()), to)
        if target and not bundle_folder(settings, target.bundle_digest).is_dir():
            refusal = f"the bundle of version {target.version} is not in {settings.home_path / 'models'}"
        if target and present and not refusal:
            connection.execute(
                insert(BARRED).values(
                    model_name=model_name,
                    version=present.version,
                    bundle_digest=present.bundle_digest,
                    reason=reason,
                )
            )
            made = replace(target, generation=present.generation + 1, kind=ROLLBACK, promoted_at=now)
            champion = add_champion(
                transaction, made, user=user, seconds=perf_counter() - began, reason=f"{present.version}: {reason}"
            )
        else:
            transaction.append(
                Entry(
                    ROLLBACK,
                    to or "",
                    FAILURE,
                    (f"champion:{present.generation}",) if present else (),
                    error_detail=str(refusal),
                    user=user,
                )
            )
    if refusal:
        raise PromotionRefusedError(f"nothing was rolled back: {refusal}")
    deployment.point(settings, champion, user=user)
    return champion


def release_barred(settings: Settings, version: str, *, reason: str, user: str) -> None:
    """Lets a rolled-back version be promoted again.

    Args:
        settings: home and model name.
        version: as the rollback barred it.
        reason: why, for the ledger.
        user: who releases it.

    Raises:
        PromotionRefusedError: the version is not barred, or no reason is given. The first stands in the ledger.
    """
    if not reason.strip():
        raise PromotionRefusedError("a release needs a reason: it stands in the ledger beside that of the rollback")
    model_name = settings.mlflow.model_name
    with Ledger(settings).transaction() as transaction:
        found = transaction.connection.execute(
            delete(BARRED).where(BARRED.c.model_name == model_name, BARRED.c.version == version)
        )
        released = found.rowcount == 1
        left = transaction.connection.execute(select(BARRED.c.version).where(BARRED.c.model_name == model_name))
        detail = "" if released else f"it is not barred, barred are: {', '.join(sorted(left.scalars())) or 'none'}"
        transaction.append(
            Entry(
                "release_barred",
                version,
                SUCCESS if released else FAILURE,
                (f"version:{version}",),
                metrics={"reason": reason},
                error_detail=detail,
                user=user,
            )
        )
    if not released:
        raise PromotionRefusedError(f"version {version} cannot be released: {detail}")


def _target(
    present: Champion | None, history: list[Champion], barred: set[str], to: str | None
) -> tuple[Champion | None, str | None]:
    if present is None:
        return None, "there is no champion yet"
    earlier = [champion for champion in history if champion.version != present.version]
    if to is None:
        target = next((champion for champion in earlier if champion.version not in barred), None)
        return target, None if target else f"no champion before version {present.version} is left to go back to"
    if to == present.version:
        return None, f"version {to} is the champion already"
    target = next((champion for champion in earlier if champion.version == to), None)
    if target is None:
        known = ", ".join(dict.fromkeys(champion.version for champion in earlier)) or "none"
        return None, f"version {to} was never champion; earlier ones: {known}"
    if to in barred:
        return None, f"version {to} was rolled back itself and is barred: release it by name first"
    return target, None
