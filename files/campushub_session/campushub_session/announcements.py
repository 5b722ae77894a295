"""What administrators announce, from a file that only root writes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from .model import Announcement

if TYPE_CHECKING:
    from pathlib import Path

NONE: Announcement = {"id": "", "texts": {}, "from": None, "until": None}


class AnnouncementFile:
    """The file, which is read when it has changed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp: tuple[int, int] | None = None
        self.announcement = NONE

    def refresh(self) -> bool:
        """Look whether there is another announcement."""
        try:
            status = self._path.stat()
            stamp = (status.st_ino, status.st_mtime_ns)
        except OSError:
            stamp = None
        if stamp == self._stamp:
            return False
        self._stamp, before = stamp, self.announcement
        self.announcement = self._read() if stamp else NONE
        return self.announcement != before

    def _read(self) -> Announcement:
        try:
            found = json.loads(self._path.read_text(encoding="utf-8"))
            return {"id": found["id"], "texts": found["texts"], "from": found["from"], "until": found["until"]}
        except (OSError, ValueError, TypeError, LookupError):
            # Written by hand, say. Nobody's work is held up for it.
            return NONE
