from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evergreen.errors import PlatformError
from evergreen.platform.containers import (
    MountPoint,
    Owner,
    TaskKey,
    exit_in_words,
    hand_over,
    mounts,
    orphans,
    part_filter,
    too_long,
    user_of,
    with_tail,
    workspace_of,
)
from evergreen.settings import Settings
from evergreen.settings.container import ContainerSettings

HERE, ELSEWHERE = "/srv/evergreen", "/srv/staging"
TASKS = st.builds(
    TaskKey,
    st.sampled_from(["train_candidates", "other_dag"]),
    st.sampled_from(["manual__2026-11-20T21:00:00+00:00", "r=2,x"]),
    st.sampled_from(["train", "train_0"]),
    st.integers(-1, 2),
)
OWNERS = st.builds(Owner, st.sampled_from([HERE, ELSEWHERE]), TASKS, st.integers(1, 3))


def listed(owners: list[Owner]) -> list[dict[str, object]]:
    return [{"Id": f"c{number}", "Labels": owner.labels} for number, owner in enumerate(owners)]


@given(OWNERS)
def test_labels_name_the_owner_and_all_tries_share_all_but_the_try(owner):
    assert Owner.read(owner.labels) == owner
    again = Owner(owner.workspace, owner.task, owner.try_number + 1)
    assert again.labels_of_all_tries == owner.labels_of_all_tries
    assert again.labels != owner.labels
    assert all(isinstance(value, str) for value in owner.labels.values())


@given(st.lists(OWNERS), st.sets(st.tuples(TASKS, st.one_of(st.none(), st.integers(1, 3)))))
def test_orphans_are_ours_and_nobody_waits_for_them(owners, running):
    """The definition, word for word, as the oracle; and nothing that runs is ever among them."""
    found = set(orphans(listed(owners), running, HERE))
    for number, owner in enumerate(owners):
        waited_for = any(task == owner.task and try_number in (None, owner.try_number) for task, try_number in running)
        assert (f"c{number}" in found) == (owner.workspace == HERE and not waited_for)


@given(st.lists(OWNERS), st.sets(st.tuples(TASKS, st.none())))
def test_whatever_stops_running_only_adds_orphans(owners, running):
    fewer = set(list(running)[1:])
    assert set(orphans(listed(owners), running, HERE)) <= set(orphans(listed(owners), fewer, HERE))


def test_containers_of_others_are_left_alone_and_ours_without_a_task_are_not():
    theirs = [{"Id": "a", "Labels": None}, {"Id": "b", "Labels": {"evergreen.part": "serving"}}]
    ours = {"Id": "c", "Labels": {"evergreen.part": "trainer", "evergreen.workspace": HERE, "evergreen.map_index": "x"}}
    assert orphans([*theirs, ours], set(), HERE) == ["c"]
    assert part_filter(HERE) == ["evergreen.part=trainer", f"evergreen.workspace={HERE}"]


@pytest.fixture
def with_container(settings: Settings) -> Callable[..., Settings]:
    return lambda **given: settings.model_copy(update={"container": ContainerSettings(**given)})


def test_folders_are_mounted_themselves_where_no_volumes_are_named(settings):
    sets, out = Path("/home/ann/sets/abc"), Path("/home/ann/trained/def")
    assert mounts(settings, sets, out) == [
        MountPoint(str(sets), str(sets), is_volume=False, read_only=True),
        MountPoint(str(out), str(out), is_volume=False, read_only=False),
    ]
    assert workspace_of(settings) == str(settings.home_path)


def test_named_volumes_are_mounted_whole_at_their_own_paths(with_container, settings):
    trained = str(settings.home_path / "models" / "trained")
    told = with_container(volumes={"/v": "all", "/v/sets": "sets", trained: "trained"})
    assert mounts(told, Path("/v/sets/abc"), Path(trained, "def")) == [
        MountPoint("sets", "/v/sets", is_volume=True, read_only=True),
        MountPoint("trained", trained, is_volume=True, read_only=False),
    ]
    assert workspace_of(told) == "trained"


@pytest.mark.parametrize(
    ("volumes", "message"),
    [
        ({"/v/sets": "sets"}, "/v/trained/def lies in none of the volumes"),
        ({"/v/trained": "trained"}, "/v/sets/abc lies in none of the volumes"),
        ({"/v/set": "sets", "/v/trained": "trained"}, "/v/sets/abc lies in none of the volumes"),
        ({"/v": "all"}, "both lie in the volume all, and a trainer may only read"),
    ],
)
def test_volumes_that_would_hide_or_open_too_much_are_refused(with_container, volumes, message):
    with pytest.raises(PlatformError, match=message):
        mounts(with_container(volumes=volumes), Path("/v/sets/abc"), Path("/v/trained/def"))


@pytest.mark.parametrize(
    ("uid", "volumes", "user"),
    [(1000, {}, "1000:1001"), (0, {}, "50000:50000"), (1000, {"/v": "all"}, "50000:50000")],
)
def test_no_trainer_is_root(with_container, monkeypatch, uid, volumes, user):
    monkeypatch.setattr(os, "getuid", lambda: uid)
    monkeypatch.setattr(os, "getgid", lambda: uid + 1)
    assert user_of(with_container(volumes=volumes)) == user


@pytest.mark.parametrize(("uid", "expected"), [(1000, []), (0, ["out", "spec.json"])])
def test_what_root_made_is_handed_over(tmp_path, monkeypatch, uid, expected):
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "spec.json").touch()
    given: list[str] = []
    monkeypatch.setattr(os, "getuid", lambda: uid)
    monkeypatch.setattr(os, "chown", lambda path, *ids: given.append(path.name) if ids == (7, 8) else None)
    hand_over(folder, "7:8")
    assert sorted(given) == expected


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (1, "ended with code 1"),
        (125, "the engine could not run it"),
        (126, "cannot be executed: settings.container.image is no trainer"),
        (127, "was not found: settings.container.image is no trainer"),
        (134, "it was ended by signal 6"),
        (137, "it was killed from outside: by hand, by the broker, or because the machine ran out of memory"),
        (139, "segmentation fault"),
        (143, "it was asked to stop"),
    ],
)
def test_exit_codes_in_words(settings, code, words):
    assert words in exit_in_words(code, out_of_memory=False, settings=settings)


def test_memory_and_time_name_the_setting_and_what_to_do(with_container):
    told = with_container(memory_gib=1.5, seconds=90)
    out_of_memory = exit_in_words(137, out_of_memory=True, settings=told)
    assert "it may use 1.50 GiB (settings.container.memory_gib). Allow more" in out_of_memory
    assert too_long(told).startswith("the trainer was stopped after 90 s (settings.container.seconds). Allow more time")


def test_the_end_of_the_log_stands_below():
    assert with_tail("why", []) == "why\nits log is empty"
    told = with_tail("why", ["", *(f"line {number}" for number in range(30)), " "]).splitlines()
    assert told[:2] == ["why", "the end of its log:"]
    assert (told[2], told[-1], len(told)) == ("line 10", "line 29", 22)
