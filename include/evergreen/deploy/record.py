"""`python -m evergreen.deploy.record`: writes an entry, JSON on standard input, to the ledger.

Runs in a container: the ledger's database can be reached from nowhere else.
"""

from __future__ import annotations

import json
import sys

from evergreen.promotion.ledger import Entry, Ledger
from evergreen.settings import load_settings


def main() -> int:
    """Appends one entry and prints its place in the chain."""
    document = json.load(sys.stdin)
    document["resources_affected"] = tuple(document.get("resources_affected", ()))
    sealed = Ledger(load_settings()).append(Entry(**document))
    print(json.dumps({"sequence": sealed.sequence, "hash": sealed.hash}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
