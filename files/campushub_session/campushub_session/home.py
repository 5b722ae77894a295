"""How full the file system of the home directory is."""

from __future__ import annotations

import threading
import time
from pathlib import Path

from . import disk_usage
from .model import Amount

# Storage that has not answered for so many seconds is not asked again, and what it said before does not count.
PATIENCE = 5.0


class Home:
    """Asks in a thread, because storage that hangs blocks whoever asks."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._thread: threading.Thread | None = None
        self._asked = 0.0
        self._amounts: dict[str, Amount | None] = {}

    def amount(self, of: str = "bytes") -> Amount | None:
        """Return what was found last, of bytes or files; None while the storage does not answer."""
        hangs = self._thread and self._thread.is_alive() and time.monotonic() - self._asked > PATIENCE
        return None if hangs else self._amounts.get(of)

    def refresh(self) -> None:
        """Ask again, unless the last question has no answer yet."""
        if not self._thread or not self._thread.is_alive():
            # A daemon: the server can end while the storage hangs.
            self._thread, self._asked = threading.Thread(target=self._ask, daemon=True), time.monotonic()
            self._thread.start()

    def _ask(self) -> None:
        try:
            self._amounts = disk_usage.amounts(self._path)
        except OSError:
            self._amounts = {}
