"""JSON that lies beside recordings, written by anybody."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from neuroloom.quarantine import UnusableRecording

MAX_BYTES = 16 * 2**20


def read_object(path: Path) -> dict[str, Any]:
    """A JSON object.

    Raises
    ------
    UnusableRecording
        If it is something else, or too large or too deep to be a sidecar.
    """
    try:
        if (size := path.stat().st_size) > MAX_BYTES:
            raise ValueError(f"{size} bytes")
        values = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise UnusableRecording(path, f"not a JSON object ({str(error)[:200]})", "Correct the sidecar") from error
    if not isinstance(values, dict):
        raise UnusableRecording(path, f"not a JSON object but a {type(values).__name__}", "Correct the sidecar")
    return values
