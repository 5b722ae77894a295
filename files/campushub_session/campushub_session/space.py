"""What takes the space in the home directory, by a process of its own that nobody waits for too long."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from tornado.web import HTTPError

PROGRAM = Path(__file__).with_name("disk_usage.py")
# Seconds that a search and a removal may take. A search ends by itself before, unless the storage hangs.
SCAN_PATIENCE, REMOVAL_PATIENCE = 30.0, 600.0
ACTIONS = ("trash", "restore", "delete", "empty", "checkpoints")
STATUS = {"invalid": 400, "denied": 403, "mounted": 403, "gone": 404, "exists": 409, "no_trash": 507, "no_room": 507}


class Space:
    """What takes the space in a home directory."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._search: asyncio.Task[dict[str, Any]] | None = None

    async def report(self) -> dict[str, Any]:
        """Return what takes the space; whoever asks in the meantime gets the same answer."""
        if not self._search or self._search.done():
            self._search = asyncio.ensure_future(self._run("scan", "", SCAN_PATIENCE))
        # A page that is closed ends nobody else's question.
        return await asyncio.shield(self._search)

    async def change(self, action: str, path: str) -> dict[str, Any]:
        """Remove something, or bring it back. Raises HTTPError."""
        if action not in ACTIONS:
            raise HTTPError(400, f"There is no action {action!r}.")
        return await self._run(action, path, REMOVAL_PATIENCE)

    async def _run(self, action: str, path: str, patience: float) -> dict[str, Any]:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-S", str(PROGRAM)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd="/",
            # Ctrl+C in a terminal of the server, say.
            start_new_session=True,
        )
        request = json.dumps({"home": str(self._home), "action": action, "path": path}).encode()
        try:
            printed, _ = await asyncio.wait_for(process.communicate(request), patience)
            answer: dict[str, Any] = json.loads(printed)
        except asyncio.TimeoutError:
            # It ends when the storage answers; nobody waits for that.
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            raise HTTPError(504, "Your home directory does not answer.") from None
        except ValueError:
            raise HTTPError(500, "The home directory could not be looked at.") from None
        if "error" in answer:
            raise HTTPError(STATUS[answer["error"]], reason=answer["error"])
        return answer
