"""The pointer that serving and scoring follow, and the check that what it points at is in the ledger."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evergreen.errors import PromotionRefusedError
from evergreen.lake.digest import canonical_json
from evergreen.promotion.champion import Champion, bundle_folder, current, history
from evergreen.promotion.evidence import write_atomically
from evergreen.promotion.ledger import Entry, Ledger
from evergreen.settings import Settings

if TYPE_CHECKING:
    from evergreen.models.bundle import Bundle


def pointer_path(settings: Settings) -> Path:
    """The file that names what is served."""
    return settings.home_path / "serving" / "champion.json"


def point(settings: Settings, champion: Champion, *, user: str = "") -> bool:
    """Points serving at a champion, in one atomic step; False where it pointed there already."""
    content = {
        "model_name": champion.model_name,
        "version": champion.version,
        "bundle_digest": champion.bundle_digest,
        "evidence_digest": champion.evidence_digest,
        "generation": champion.generation,
    }
    path = pointer_path(settings)
    if _read(path) == content:
        return False
    write_atomically(path, canonical_json(content) + "\n")
    Ledger(settings).append(Entry("deploy", champion.version, resources_affected=champion.resources, user=user))
    return True


def served(settings: Settings) -> Champion:
    """The champion that serving may load. A pointer left behind by a crash is brought up to the ledger's truth.

    Raises:
        PromotionRefusedError: nothing was promoted yet, or the pointer names what the ledger does not know.
        LedgerError: the champion's row was changed behind the ledger's back.
    """
    champion = current(settings)
    if champion is None:
        raise PromotionRefusedError("there is no champion yet: ./evergreen run trains, judges and promotes one")
    pointer = _read(pointer_path(settings))
    known = {(entry.generation, entry.bundle_digest) for entry in history(settings)}
    if pointer is not None and (pointer.get("generation"), pointer.get("bundle_digest")) not in known:
        raise PromotionRefusedError(
            f"{pointer_path(settings)} points at bundle {str(pointer.get('bundle_digest'))[:12]}, generation "
            f"{pointer.get('generation')}, which the ledger does not know: it was written behind the ledger's back. "
            "Remove it; it is made anew from the ledger."
        )
    point(settings, champion)
    return champion


def load_champion(settings: Settings) -> tuple[Champion, Bundle]:
    """The champion and its bundle, every file of it checked against the digest in the ledger.

    Raises:
        PromotionRefusedError: as `served`.
        BundleError: the bundle is incomplete or altered.
    """
    from evergreen.models.bundle import load_bundle

    champion = served(settings)
    return champion, load_bundle(bundle_folder(settings, champion.bundle_digest), champion.bundle_digest)


def _read(path: Path) -> dict[str, Any] | None:
    try:
        content = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}
