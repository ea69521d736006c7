"""Nothing is changed before a snapshot was taken; databases go back to it, all of them or none."""

from __future__ import annotations

import json
import stat
from dataclasses import replace
from typing import Any

import pytest

from evergreen.deploy import snapshot
from evergreen.deploy.back import roll_back
from evergreen.deploy.databases import DATABASES
from evergreen.deploy.snapshot import Parts
from evergreen.deploy.stack import Stack
from evergreen.errors import DeployError


def newest(stack: Stack) -> snapshot.Snapshot:
    return snapshot.read(stack.snapshots, stack.history.all()[-1].snapshot)


def test_a_first_deployment_has_nothing_to_keep_and_says_so(stack: Stack, engine: Any, deployed: Any) -> None:
    told: list[str] = []
    release = deployed(replace(stack, say=told.append), "1")
    assert release.snapshot == ""
    assert "no snapshot: nothing was deployed before" in told
    assert engine.done == ["up", "exec"]


def test_it_is_taken_before_anything_is_changed(stack: Stack, engine: Any, deployed: Any) -> None:
    deployed(stack, "1")
    engine.done.clear()
    release = deployed(stack, "2")
    assert engine.done == ["run", *(f"dump {name}" for name in DATABASES), "up", "exec"]
    taken = newest(stack)
    assert (taken.release, taken.environment, taken.schemas["airflow"], taken.models) == ("1", "production", "a1", 1)
    assert taken.home == {"backup": "/var/lib/evergreen/backups/a/t", "digest": "d", "bytes": 7}
    assert {"databases/airflow.dump", "configuration/compose.env", "configuration/releases.json"} <= set(taken.files)
    assert f"snapshot:{release.snapshot}" in json.loads(engine.entries[-1])["resources_affected"]
    assert not any("secrets" in name for name in taken.files)


def test_it_is_for_its_owner_alone(stack: Stack, deployed: Any) -> None:
    deployed(stack, "1")
    deployed(stack, "2")
    folder = stack.snapshots / stack.history.all()[-1].snapshot
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in (stack.snapshots, folder, *folder.rglob("*"))}
    assert not [path for path, mode in modes.items() if mode & 0o077]


@pytest.mark.parametrize(("parts", "dumps"), [(Parts.DATABASES, 4), (Parts.NONE, 0)])
def test_less_of_it_is_taken_where_asked(stack: Stack, engine: Any, deployed: Any, parts: Parts, dumps: int) -> None:
    deployed(stack, "1")
    release = deployed(stack, "2", parts)
    assert sum(step.startswith("dump") for step in engine.done) == dumps
    assert "run" not in engine.done
    assert bool(release.snapshot) is (dumps > 0)


def test_where_none_can_be_taken_nothing_is_changed(stack: Stack, engine: Any, deployed: Any) -> None:
    deployed(stack, "1")
    engine.home_broken = "compose run failed: evergreen: another backup is at work"
    with pytest.raises(DeployError, match=r"^no snapshot could be taken, and nothing was changed: .*--snapshot none"):
        deployed(stack, "2")
    assert engine.started == ["1"]
    assert list(stack.snapshots.iterdir()) == []
    deployed(stack, "2", Parts.NONE)  # control: the way that the line names
    assert engine.started == ["1", "2"]


def test_old_ones_are_removed_but_not_what_going_back_needs(stack: Stack, deployed: Any) -> None:
    keeping = replace(stack, given={"EVERGREEN_SNAPSHOTS_KEPT": "2"})
    deployed(keeping, "1")
    deployed(keeping, "2")
    needed = stack.history.all()[-1].snapshot
    for _ in range(3):
        deployed(keeping, "2")  # the same release: what was before it stays what was before it
    assert stack.history.all()[-1].snapshot == needed
    assert len(snapshot.names(stack.snapshots)) == 3
    assert needed in snapshot.names(stack.snapshots)


@pytest.mark.parametrize("harm", ["dump", "manifest"])
def test_an_altered_one_is_refused(stack: Stack, engine: Any, deployed: Any, harm: str) -> None:
    deployed(stack, "1")
    release = deployed(stack, "2")
    folder = stack.snapshots / release.snapshot
    file = folder / ("databases/airflow.dump" if harm == "dump" else "manifest.json")
    file.write_text(file.read_text().replace("a1", "a9"))
    engine.done.clear()
    with pytest.raises(DeployError, match=r"was altered.*: nothing was changed"):
        roll_back(stack, databases=True)
    assert engine.done == []


def test_going_back_over_a_migration_wants_the_databases(stack: Stack, engine: Any, deployed: Any) -> None:
    deployed(stack, "1")
    deployed(stack, "2")
    engine.schemas["airflow"] = "a2"
    engine.done.clear()
    with pytest.raises(DeployError, match=r"^2 migrated the database airflow, .*needs --databases, .*"):
        roll_back(stack)
    assert engine.done == [], "refused before anything was stopped"
    release = roll_back(stack, databases=True)
    assert engine.schemas["airflow"] == "a1"
    dumps = [f"dump {name}" for name in DATABASES]
    restores = ["restore airflow_draft", "restore feast_draft"]
    assert engine.done == [*dumps, "stop", *restores, "swap", "up", "exec"]
    assert {"databases", "start", "total"} <= set(release.seconds)
    assert "database:airflow" in json.loads(engine.entries[-1])["resources_affected"]
    assert len(snapshot.names(stack.snapshots)) == 2, "what the databases held is kept"


def test_the_ledger_never_goes_back(stack: Stack, engine: Any, deployed: Any) -> None:
    deployed(stack, "1")
    deployed(stack, "2")
    engine.schemas["mlflow"] = "m2"
    roll_back(stack, databases=True)
    restored = {step.removeprefix("restore ") for step in engine.done if step.startswith("restore")}
    assert restored == {"airflow_draft", "feast_draft", "mlflow_draft"}


def test_numbers_of_models_are_not_given_out_twice(stack: Stack, engine: Any, deployed: Any) -> None:
    deployed(stack, "1")
    deployed(stack, "2")
    engine.schemas["mlflow"], engine.models = "m2", 3
    with pytest.raises(DeployError, match=r"2 model\(s\) were registered since"):
        roll_back(stack, databases=True)
    assert engine.started == ["1", "2"]
    engine.schemas["mlflow"] = "m1"  # control: without a migration MLflow's database stays as it is
    roll_back(stack, databases=True)
    assert "restore mlflow_draft" not in engine.done


def test_databases_that_cannot_be_put_back_stay_as_they_were(stack: Stack, engine: Any, deployed: Any) -> None:
    deployed(stack, "1")
    deployed(stack, "2")
    engine.schemas["airflow"], engine.restore_broken = "a2", "pg_restore failed: out of space"
    with pytest.raises(DeployError, match=r"^the databases are what they were, and 2 runs again: pg_restore failed"):
        roll_back(stack, databases=True)
    assert "swap" not in engine.done
    assert engine.started[-1] == "2"
    assert [release.tag for release in stack.history.all()] == ["1", "2"]


def test_without_a_snapshot_there_are_no_databases_to_put_back(stack: Stack, deployed: Any) -> None:
    deployed(stack, "1")
    deployed(stack, "2", Parts.NONE)
    with pytest.raises(DeployError, match=r"^no snapshot was taken before 2"):
        roll_back(stack, databases=True)


def test_what_comes_after_a_failed_release_goes_back_to_before_it(stack: Stack, engine: Any, deployed: Any) -> None:
    """The failed one may have migrated: its own snapshot, not that of its mended successor, is from before."""
    deployed(stack, "1")
    engine.unhealthy = "2"
    with pytest.raises(DeployError):
        deployed(stack, "2")
    engine.schemas["airflow"] = "a2"
    deployed(stack, "3")
    assert newest(stack).schemas["airflow"] == "a1"
    roll_back(stack, databases=True)
    assert engine.schemas["airflow"] == "a1"
