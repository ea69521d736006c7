"""One look at everything that promotion keeps: the chain, the champion's rows and the evidence that they name."""

from __future__ import annotations

from dataclasses import replace

from evergreen.errors import PromotionRefusedError
from evergreen.promotion.champion import forgery, read_history
from evergreen.promotion.evidence import load_evidence
from evergreen.promotion.ledger import Ledger, Verification
from evergreen.settings import Settings


def verify(settings: Settings, *, head: str | None = None) -> Verification:
    """The ledger's own verification, and with it: every champion is what its entry says and its evidence is unaltered.

    Args:
        settings: home and model name.
        head: hash of an entry as noted elsewhere; it must be in the chain.
    """
    ledger = Ledger(settings)
    verification = ledger.verify(head=head)
    problems = list(verification.problems)
    with ledger.reading() as connection:
        champions = read_history(connection, settings.mlflow.model_name)
        problems += [problem for champion in champions if (problem := forgery(connection, champion))]
    generations = [champion.generation for champion in champions]
    if generations != list(range(len(generations), 0, -1)):
        problems.append(f"generations of the champion are {generations}, must count down to 1: rows were removed")
    for digest in dict.fromkeys(champion.evidence_digest for champion in champions):
        try:
            load_evidence(settings, digest)
        except PromotionRefusedError as error:
            problems.append(str(error))
    return replace(verification, problems=tuple(problems))
