"""Which requests are known at all: method, path and query. Everything else is refused.

A path holds no percent sign, no empty and no dotted segment, so that the broker and the engine cannot read it in two
ways. A query is read, compared and written anew.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlencode

from evergreen.broker.policy import read_object
from evergreen.broker.refusal import RefusedError, Rule, shown

HEALTH = "/_broker/health"

_TARGET = re.compile(r"[A-Za-z0-9/_.:-]{1,400}")
_QUERY = re.compile(r"[A-Za-z0-9_.=&%+:,-]{0,4000}")
_VERSION = re.compile(r"/v1\.[0-9]{1,3}(?=/)")
_CONTAINER = r"/containers/(?P<subject>[A-Za-z0-9][A-Za-z0-9_.-]{0,127})"
_IMAGE = r"/images/(?P<subject>[a-z0-9][A-Za-z0-9/_.:-]{0,254})/json"
_BOOL, _FALSE = r"[01]|[Tt]rue|[Ff]alse", r"0|[Ff]alse"
_TIME = r"[0-9]{1,12}(\.[0-9]{1,9})?"
_FILTERS = r".{2,3000}"
_LIST_FILTERS = frozenset({"exited", "id", "label", "name", "status"})


@dataclass(frozen=True)
class Pattern:
    """One kind of request: its method, its path without the version, and what its query may hold."""

    method: str
    path: str
    query: Mapping[str, str]


PATTERNS: dict[str, Pattern] = {
    "health": Pattern("GET", HEALTH, {}),
    "ping": Pattern("GET", "/_ping", {}),
    "ping_head": Pattern("HEAD", "/_ping", {}),
    "version": Pattern("GET", "/version", {}),
    "info": Pattern("GET", "/info", {}),
    "images": Pattern("GET", "/images/json", {"only_ids": "[01]", "all": "[01]", "filters": _FILTERS}),
    "image": Pattern("GET", _IMAGE, {}),
    "create": Pattern("POST", "/containers/create", {"name": r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}"}),
    "list": Pattern(
        "GET",
        "/containers/json",
        {"all": _BOOL, "limit": "-1|[0-9]{1,6}", "size": _FALSE, "trunc_cmd": _BOOL, "filters": _FILTERS},
    ),
    "inspect": Pattern("GET", f"{_CONTAINER}/json", {"size": _FALSE}),
    "attach": Pattern(
        "POST", f"{_CONTAINER}/attach", {"logs": _BOOL, "stream": _BOOL, "stdout": _BOOL, "stderr": _BOOL}
    ),
    "logs": Pattern(
        "GET",
        f"{_CONTAINER}/logs",
        {
            "follow": _BOOL,
            "stdout": _BOOL,
            "stderr": _BOOL,
            "timestamps": _BOOL,
            "tail": "all|[0-9]{1,9}",
            "since": _TIME,
            "until": _TIME,
        },
    ),
    "start": Pattern("POST", f"{_CONTAINER}/start", {}),
    "stop": Pattern("POST", f"{_CONTAINER}/stop", {"t": "[0-9]{1,3}"}),
    "kill": Pattern("POST", f"{_CONTAINER}/kill", {"signal": "(SIG)?[A-Z0-9+-]{1,12}"}),
    "wait": Pattern("POST", f"{_CONTAINER}/wait", {"condition": "not-running|next-exit|removed"}),
    "remove": Pattern("DELETE", _CONTAINER, {"v": _BOOL, "link": _FALSE, "force": _BOOL}),
}


@dataclass(frozen=True)
class Route:
    """A request that is known."""

    kind: str  # a key of PATTERNS
    method: str
    version: str  # "/v1.41", or empty
    path: str  # without the version; `{}` in the place of the subject
    query: Mapping[str, str]
    subject: str = ""  # the container or the image that the path names

    @property
    def is_watch(self) -> bool:
        """True where the client stays and follows the container: its going away means something."""
        return self.kind in ("attach", "wait") or (
            self.kind == "logs" and self.query.get("follow", "0").lower() in ("1", "true")
        )

    def target(self, subject: str = "") -> str:
        """What to ask of the engine, with `subject` in the place of what the client called it."""
        path = self.path.replace("{}", subject or self.subject)
        return f"{self.version}{path}" + (f"?{urlencode(self.query)}" if self.query else "")


def find_route(method: str, target: str) -> Route:
    """The known request behind a request line.

    Raises:
        RefusedError: rule `path` or `query`.
    """
    path, _, query = target.partition("?")
    if not path.startswith("/") or not _TARGET.fullmatch(path) or _is_crooked(path):
        raise RefusedError(Rule.PATH, f"the path is {shown(path)}", "must be plain: no '%', '..', '//' and no address")
    found = _VERSION.match(path)
    version = found.group() if found else ""
    rest = path[len(version) :]
    for kind, pattern in PATTERNS.items():
        match = re.fullmatch(pattern.path, rest)
        if match and pattern.method == method:
            values = _read_query(query, pattern.query)
            subject = match.groupdict().get("subject", "")
            template = f"{rest[: match.start('subject')]}{{}}{rest[match.end('subject') :]}" if subject else rest
            return Route(kind, method, version, template, values, subject)
    raise RefusedError(Rule.PATH, f"the request is {shown(f'{method} {rest}')}", "no such request is allowed")


def _is_crooked(path: str) -> bool:
    return any(segment in ("", ".", "..") for segment in path[1:].split("/"))


def _read_query(text: str, allowed: Mapping[str, str]) -> dict[str, str]:
    if not _QUERY.fullmatch(text):
        raise RefusedError(Rule.QUERY, f"the query is {shown(text)}", "must be plain key=value pairs")
    try:
        pairs = parse_qsl(text, keep_blank_values=True, strict_parsing=bool(text), errors="strict")
    except ValueError:
        raise RefusedError(Rule.QUERY, f"the query is {shown(text)}", "must be plain key=value pairs") from None
    values = dict(pairs)
    if len(values) != len(pairs):
        raise RefusedError(Rule.QUERY, f"the query is {shown(text)}", "a key must stand once")
    for key, value in values.items():
        if key not in allowed or not re.fullmatch(allowed[key], value):
            expected = f"must match {allowed[key]}" if key in allowed else "no such key is allowed"
            raise RefusedError(Rule.QUERY, f"{key} is {shown(value)}", expected)
    return values


def own_filters(text: str, labels: Mapping[str, str]) -> str:
    """Filters of a container list, with the labels of our containers added.

    Raises:
        RefusedError: rule `query`.
    """
    filters = _read_filters(text) if text else {}
    for name in filters:
        if name not in _LIST_FILTERS:
            raise RefusedError(Rule.QUERY, f"the filter is {shown(name)}", f"must be one of {sorted(_LIST_FILTERS)}")
    own = [f"{name}={value}" for name, value in labels.items()]
    return json.dumps({**filters, "label": [*(label for label in filters.get("label", []) if label not in own), *own]})


def image_filter(text: str) -> str:
    """The image that an image list asks for.

    Raises:
        RefusedError: rule `query`.
    """
    filters = _read_filters(text) if text else {}
    if list(filters) != ["reference"] or len(filters["reference"]) != 1:
        raise RefusedError(Rule.QUERY, f"filters is {shown(text)}", 'must be {"reference": [one image]}')
    return filters["reference"][0]


def _read_filters(text: str) -> dict[str, list[str]]:
    filters: dict[str, Any] = read_object(text.encode())
    for name, values in filters.items():
        if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
            raise RefusedError(Rule.QUERY, f"the filter {name} is {shown(values)}", "must be a list of texts")
    return filters
