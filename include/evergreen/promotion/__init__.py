"""Promotion: gates, evidence, approval, compare-and-set of the champion, rollback, and the ledger of all of it."""
