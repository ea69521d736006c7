"""The way back from a release: to the images, the settings and, where asked, the databases of the one before."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import UTC, datetime

from evergreen.deploy import snapshot
from evergreen.deploy.images import image_name
from evergreen.deploy.releases import Release
from evergreen.deploy.snapshot import Parts
from evergreen.deploy.stack import IMAGES, Stack
from evergreen.errors import DeployError

PUT_BACK = ("airflow", "feast", "mlflow")
MIGRATED = ("airflow", "mlflow")  # by the software that they belong to, when a newer one starts
STAYING = ("postgres", "redis")  # while databases are put back


def roll_back(stack: Stack, *, databases: bool = False) -> Release:
    """Brings the release before the newest up again: its images, its settings and its Compose file.

    A release that was started and never became healthy is gone back from to the newest that did.

    Args:
        stack: the environment.
        databases: also put Airflow's and Feast's databases back as they were before the release that is left, and
            MLflow's where that release migrated it. The ledger stays: it is the history of champions, and only grows.
            What the databases hold now is kept in another snapshot.

    Raises:
        DeployError: there is none, its images are gone, databases were migrated since and nobody asked to put them
            back, or they cannot be: nothing was changed then. Or it did not become healthy.
    """
    began = time.monotonic()
    left, before = stack.history.way_back()
    if left is None or before is None:
        count = len(stack.history.all())
        raise DeployError(f"{stack.options.environment} has {count} release(s), going back needs two")
    missing = [name for name in IMAGES if not stack.engine.has_image(image_name(name, before.tag))]
    if missing:
        gone = ", ".join(missing)
        raise DeployError(f"images of {before.tag} are gone ({gone}): check its commit out and deploy that")
    stack.secrets.check()
    now, then = stack.under(left), stack.under(before)
    then.check()
    chosen = _chosen(now, left, databases=databases)
    release = replace(before, at=datetime.now(UTC).isoformat(timespec="seconds"), seconds={})
    if chosen:
        _put_back(now, left, chosen, release.seconds)
    then.start(release)
    release.seconds["total"] = round(time.monotonic() - began, 1)
    stack.history.go_back(release)
    then.note(release, "rollback_platform", chosen)
    changed = sorted(
        name for name in {*stack.settings, *then.settings} if stack.given.get(name) != then.given.get(name)
    )
    if changed:
        stack.say(f"the next deployment would bring these of .env back: {', '.join(changed)}")
    return release


def _chosen(now: Stack, left: Release, *, databases: bool) -> list[str]:
    """Databases that have to be put back."""
    if not left.snapshot and databases:
        raise DeployError(f"no snapshot was taken before {left.tag}: there are no databases to put back")
    if not databases and left.snapshot not in snapshot.names(now.snapshots):
        return []
    taken = snapshot.read(now.snapshots, left.snapshot)
    now.wake(left)
    migrated = [name for name in MIGRATED if now.databases.schema(name) != taken.schemas[name]]
    if migrated and not databases:
        raise DeployError(
            f"{left.tag} migrated the database {migrated[0]}, which the release before cannot read: going back needs "
            f"--databases, which puts back what there was at {taken.made_at}"
        )
    if "mlflow" in migrated and (new := snapshot.models_known(now.databases) - taken.models):
        raise DeployError(
            f"{left.tag} migrated MLflow's database, and {new} model(s) were registered since: going back would give "
            "their numbers, which the ledger knows, to others. Mend the release and deploy that"
        )
    return [name for name in PUT_BACK if name != "mlflow" or name in migrated] if databases else []


def _put_back(now: Stack, left: Release, chosen: list[str], seconds: dict[str, float]) -> None:
    began = time.monotonic()
    now.snapshot(Parts.DATABASES)
    seconds["snapshot"] = round(time.monotonic() - began, 1)
    began = time.monotonic()
    now.say("stopping the services")
    running = [state.service for state in now.states() if state.status != "exited"]
    now.compose(left, ["stop", *(name for name in running if name not in STAYING)])
    now.say(f"putting back the databases of {left.snapshot}: {', '.join(chosen)}")
    try:
        now.databases.put_back(snapshot.dump_files(now.snapshots, left.snapshot, chosen))
    except DeployError as error:
        now.compose(left, ["up", "-d"])
        raise DeployError(f"the databases are what they were, and {left.tag} runs again: {error}") from None
    seconds["databases"] = round(time.monotonic() - began, 1)
