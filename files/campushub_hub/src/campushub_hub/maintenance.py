"""A maintenance: no server is started, and those that run end when it begins, except those of administrators."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TypedDict

# `campushub maintenance` writes it.
FILE = Path("/etc/campushub/maintenance.json")


class Maintenance(TypedDict):
    """When it begins, in seconds since 1970, and whether servers end then."""

    at: float
    stop: bool


def current() -> Maintenance | None:
    """Return the maintenance that is announced, or under way."""
    try:
        found = json.loads(FILE.read_text())
        # Without a time it began when that was written.
        return {"at": float(found["from"] or FILE.stat().st_mtime), "stop": bool(found["stop"])}
    except (OSError, ValueError, TypeError, LookupError):
        return None


def begins(maintenance: Maintenance) -> str:
    """Return when it begins, by the clock of the host."""
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(maintenance["at"]))
