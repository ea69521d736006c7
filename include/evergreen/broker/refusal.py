"""A refusal: the rule that it stands on, what was seen, what is expected."""

from __future__ import annotations

import json
from enum import StrEnum
from typing import Any

from evergreen.errors import EvergreenError

_SHOWN, _MOST_SEEN = 160, 300


class Rule(StrEnum):
    """Names of the rules, as they stand in answers and in the ledger."""

    HTTP = "http"
    PATH = "path"
    QUERY = "query"
    BODY = "body"
    KEYS = "keys"
    COUNT = "count"
    OWNER = "owner"
    IMAGE = "image"
    LABELS = "labels"
    USER = "user"
    ENVIRONMENT = "environment"
    PRIVILEGED = "privileged"
    CAPABILITIES = "capabilities"
    SECURITY_OPTIONS = "security-options"
    READ_ONLY_ROOT = "read-only-root"
    NAMESPACES = "namespaces"
    NETWORK = "network"
    DEVICES = "devices"
    MOUNTS = "mounts"
    MEMORY = "memory"
    CPUS = "cpus"
    PIDS = "pids"
    HOST = "host"
    LIFECYCLE = "lifecycle"
    LOG = "log"


class RefusedError(EvergreenError):
    """A request that the policy does not allow."""

    def __init__(self, rule: Rule, seen: str, expected: str) -> None:
        # what was seen is the client's: it must neither fill the ledger nor break its lines
        plain = "".join(letter if letter.isprintable() else "?" for letter in seen[:_MOST_SEEN])
        super().__init__(f"{rule}: {plain}, {expected}")
        self.rule = rule


def shown(value: Any) -> str:
    """A value of a request as one short line of JSON."""
    text = json.dumps(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
