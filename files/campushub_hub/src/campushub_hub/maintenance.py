"""A maintenance: no server is started, and those that run end when it begins, except those of administrators."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TypedDict

# `campushub maintenance` writes it.
FILE = Path("/etc/campushub/maintenance.json")


class Maintenance(TypedDict):
    """When it begins, in seconds since 1970 and by the clock of whoever announced it, and whether servers end then."""

    at: float
    when: str
    stop: bool


def current() -> Maintenance | None:
    """Return the maintenance that is announced, or under way."""
    try:
        found = json.loads(FILE.read_text())
        # Without a time it began when that was written.
        at = float(found["from"] or FILE.stat().st_mtime)
        return {"at": at, "when": str(found["when"]), "stop": bool(found["stop"])}
    except (OSError, ValueError, TypeError, LookupError):
        return None
