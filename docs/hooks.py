"""MkDocs asks here while it builds the site: reference pages get what is generated from the code."""

import re
from typing import Any

from neuroloom.reference import PAGES


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Fill in the marks of a page."""
    return re.sub(r"<!-- generated: (\w+) -->", lambda mark: PAGES[mark[1]](), markdown)
