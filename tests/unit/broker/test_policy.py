"""Every single hostile change to a good create request is refused by the rule that it breaks."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from evergreen.broker import policy
from evergreen.broker.policy import review_create
from evergreen.broker.refusal import RefusedError, Rule
from tests.create_requests import HOSTILE, SETS, TRAINED, broker_settings, gpu_request, recorded, with_change

SETTINGS = broker_settings()
GOOD = recorded()
PRIMITIVES = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20)
)
JSON_VALUES = st.recursive(
    PRIMITIVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
)
NAMES = sorted(set(policy._CONFIG) | set(policy._CONFIG_EMPTY))
HOST_NAMES = sorted(set(policy._HOST_CONFIG) | set(policy._HOST_CONFIG_EMPTY))


def review(body: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return review_create(json.dumps(body).encode(), broker_settings(**changes))


def refusal_of(body: bytes | dict[str, Any]) -> RefusedError:
    with pytest.raises(RefusedError) as caught:
        review_create(body if isinstance(body, bytes) else json.dumps(body).encode(), SETTINGS)
    return caught.value


def test_what_docker_py_sends_for_a_trainer_is_allowed() -> None:
    kept = review(GOOD)
    assert kept["Image"] == GOOD["Image"]
    assert kept["Cmd"] == GOOD["Cmd"]
    host = kept["HostConfig"]
    assert host["CapDrop"] == ["ALL"]
    assert host["ReadonlyRootfs"] is True
    assert [(one["Source"], one["Target"], one["ReadOnly"]) for one in host["Mounts"]] == [
        ("evergreen_training_sets", SETS, True),
        ("evergreen_trained", TRAINED, False),
    ]
    assert host["LogConfig"] == {"Type": "json-file", "Config": {"max-size": "10m", "max-file": "1"}}


@pytest.mark.parametrize(("rule", "path", "value"), HOSTILE, ids=[f"{rule}-{path}" for rule, path, _ in HOSTILE])
def test_a_hostile_change_is_refused_by_its_rule(rule: str, path: str, value: Any) -> None:
    """The control is the test above: the same body without the change is allowed."""
    refusal = refusal_of(with_change(GOOD, path, value))
    assert refusal.rule == rule
    assert str(refusal).startswith(f"{rule}: ")
    assert "\n" not in str(refusal)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("HostConfig.Privileged", False),
        ("HostConfig.CapAdd", []),
        ("HostConfig.PortBindings", {}),
        ("HostConfig.PidMode", ""),
        ("HostConfig.RestartPolicy", {"Name": "no", "MaximumRetryCount": 0}),
        ("HostConfig.SecurityOpt", ["no-new-privileges"]),
        ("HostConfig.IpcMode", "private"),
        ("HostConfig.Mounts", [{"Type": "tmpfs", "Target": "/scratch", "TmpfsOptions": {"SizeBytes": 1024}}]),
        ("HostConfig.Mounts", None),
        ("HostConfig.Binds", None),
        ("HostConfig.Tmpfs", {"/tmp": "size=1m,mode=1777,uid=50000", "/dev/shm": "size=1k"}),
        ("HostConfig.Init", True),
        ("HostConfig.OomScoreAdj", 500),
        ("User", "50000"),
        ("Env", ["A=b", "CUDA_VISIBLE_DEVICES=0"]),
        ("Entrypoint", ["python"]),
        ("Tty", True),
        ("WorkingDir", "/tmp"),
        ("StopTimeout", 5),
    ],
)
def test_a_harmless_change_is_allowed(path: str, value: Any) -> None:
    review(with_change(GOOD, path, value))


def test_binds_of_named_volumes_are_allowed() -> None:
    binds = [f"evergreen_training_sets:{SETS}:ro", f"evergreen_trained:{TRAINED}"]
    body = with_change(with_change(GOOD, "HostConfig.Mounts", ...), "HostConfig.Binds", binds)
    assert review(body)["HostConfig"]["Binds"] == binds


def test_one_place_is_mounted_once() -> None:
    body = with_change(GOOD, "HostConfig.Binds", [f"evergreen_trained:{TRAINED}"])
    assert refusal_of(body).rule is Rule.MOUNTS


def test_gpus_are_for_those_who_may() -> None:
    body = recorded(device_requests=[gpu_request()])
    assert refusal_of(body).rule is Rule.DEVICES
    assert review(body, gpus=True)["HostConfig"]["DeviceRequests"][0]["DeviceIDs"] == ["0"]
    for change in ([["gpu", "display"]], [["gpu"], ["utility"]], [], None):
        with pytest.raises(RefusedError, match="devices"):
            review(with_change(body, "HostConfig.DeviceRequests.0.Capabilities", change), gpus=True)


@given(st.sampled_from(NAMES), st.data())
def test_a_name_in_another_case_is_refused(name: str, data: st.DataObject) -> None:
    """The engine would take it for the name itself."""
    variant = data.draw(st.sampled_from([name.lower(), name.upper(), name.swapcase(), name.replace("s", "\u017f")]))
    assume(variant != name)
    body = {key: value for key, value in GOOD.items() if key != name}
    assert refusal_of({**body, variant: GOOD.get(name, True)}).rule is Rule.KEYS


@given(st.sampled_from(HOST_NAMES), st.data())
def test_a_host_name_in_another_case_is_refused(name: str, data: st.DataObject) -> None:
    variant = data.draw(st.sampled_from([name.lower(), name.upper(), name.swapcase(), name.replace("k", "\u212a")]))
    assume(variant != name)
    host = {key: value for key, value in GOOD["HostConfig"].items() if key != name}
    assert refusal_of({**GOOD, "HostConfig": {**host, variant: GOOD["HostConfig"].get(name, True)}}).rule is Rule.KEYS


@pytest.mark.parametrize("second", ["Privileged", "privileged", "PRIVILEGED", "Privi\\u006ceged"])
def test_a_name_twice_is_refused(second: str) -> None:
    """Go takes the last one, other readers the first."""
    text = json.dumps(with_change(GOOD, "HostConfig.Privileged", False))
    twice = text.replace('"Privileged": false', f'"Privileged": false, "{second}": true')
    assert twice != text
    assert refusal_of(twice.encode()).rule is Rule.BODY


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"{} {}",
        b"\xff",
        b"\xef\xbb\xbf{}",
        "{}".encode("utf-16"),
        b'{"Image": NaN}',
        b"[" * 100_000,
        b'{"a":' * 100_000,
    ],
)
def test_what_is_no_plain_json_object_is_refused(body: bytes) -> None:
    assert refusal_of(body).rule is Rule.BODY


@given(st.text(min_size=1, max_size=12), JSON_VALUES)
def test_an_unknown_name_is_refused(name: str, value: Any) -> None:
    assume(name.casefold() not in {known.casefold() for known in [*NAMES, *HOST_NAMES]})
    assert refusal_of({**GOOD, name: value}).rule is Rule.KEYS
    assert refusal_of({**GOOD, "HostConfig": {**GOOD["HostConfig"], name: value}}).rule is Rule.KEYS


@given(st.sampled_from(sorted(policy._HOST_CONFIG_EMPTY)), JSON_VALUES)
def test_what_must_be_left_out_is_refused_or_left_out(name: str, value: Any) -> None:
    body = {**GOOD, "HostConfig": {**GOOD["HostConfig"], name: value}}
    if policy._is_empty(value):
        assert name not in review(body)["HostConfig"]
    else:
        assert refusal_of(body).rule is policy._HOST_CONFIG_EMPTY[name]


@given(st.sampled_from([*NAMES, *(f"HostConfig.{name}" for name in HOST_NAMES)]), JSON_VALUES)
def test_any_value_anywhere_is_refused_or_leaves_the_walls_standing(path: str, value: Any) -> None:
    """Whatever a key is set to, what is handed on has all walls."""
    try:
        kept = review(with_change(GOOD, path, value))
    except RefusedError:
        return
    assert set(kept) <= set(policy._CONFIG)
    host = kept["HostConfig"]
    assert set(host) <= set(policy._HOST_CONFIG)
    assert (host["NetworkMode"], host["ReadonlyRootfs"], host["CapDrop"]) == ("none", True, ["ALL"])
    assert 0 < host["Memory"] <= SETTINGS.max_memory_bytes
    assert 0 < host["NanoCpus"] <= SETTINGS.max_nano_cpus
    assert 0 < host["PidsLimit"] <= SETTINGS.max_pids
    assert re.fullmatch(r"[1-9]\d*(:[1-9]\d*)?", kept["User"])
    assert kept["Labels"]["evergreen.part"] == "trainer"
    assert {one.get("Source") for one in host.get("Mounts", [])} <= {*SETTINGS.volumes, None}


@given(st.text(max_size=60))
def test_no_text_is_a_bind_but_those_that_are_declared(text: str) -> None:
    declared = {
        f"evergreen_training_sets:{SETS}:ro",
        *(f"evergreen_trained:{TRAINED}{end}" for end in ("", ":ro", ":rw")),
    }
    assume(text not in declared)
    body = with_change(with_change(GOOD, "HostConfig.Mounts", ...), "HostConfig.Binds", [text])
    assert refusal_of(body).rule is Rule.MOUNTS
