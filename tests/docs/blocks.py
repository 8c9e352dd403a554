"""Fenced blocks of Markdown pages."""

import re
from pathlib import Path

FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks_of(page: Path, *languages: str) -> list[tuple[str, str]]:
    """Language and text of the fenced blocks of a page, in their order."""
    return [(language, text) for language, text in FENCE.findall(page.read_text()) if language in languages]
