"""Markdown of the reference pages."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

NOTE = "<!-- Made by `./evergreen docs`: change what it describes, not this page. -->"


def page(title: str, *parts: str) -> str:
    """A whole page: the note that it is made, its title, and its parts with a blank line between them."""
    return "\n\n".join([NOTE, f"# {title}", *(part.strip() for part in parts if part.strip())]) + "\n"


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; empty where there are no rows."""
    lines = [" | ".join(_cell(text) for text in row) for row in rows]
    if not lines:
        return ""
    rule = "|".join("---" for _ in headings)
    return "\n".join([f"| {' | '.join(headings)} |", f"|{rule}|", *(f"| {line} |" for line in lines)])


def code(text: object) -> str:
    """Text as it is typed; empty where there is none."""
    return f"`{text}`" if str(text) else ""


def block(text: str, language: str = "") -> str:
    """Several lines as they stand in a file."""
    return f"```{language}\n{text.strip()}\n```"


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())
