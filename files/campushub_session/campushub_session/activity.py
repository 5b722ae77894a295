"""
What counts as activity of the server, with or without a page that is open.

A person at an open page, whose page says so; a request that changes something; a kernel that is busy, with or without
output; programs of this server, in terminals and displays say, that use CPU; and what other extensions record, such as
traffic of applications behind jupyter-server-proxy. Jupyter counts each request instead, and JupyterLab asks for
kernels, files and terminals every ten seconds as long as a page is visible, whoever is there. The server's own use of
CPU does not count either: such a page causes some.
"""

from __future__ import annotations

import datetime as dt
import os
import time
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jupyter_server.base.handlers import APIHandler

from . import programs

if TYPE_CHECKING:
    from .cgroups import Slice

# Of the settings of the server whose names end so, Jupyter takes the latest. Its own is that of requests, where other
# extensions record activity as well.
_SUFFIX, _REQUESTS = "_last_activity", "api_last_activity"
_OWN = f"session{_SUFFIX}"

# CPU cores that programs keep busy at least; an idle desktop takes less than a hundredth.
LEAST_CORES = 0.05
# A look that follows another one after fewer seconds would measure too little.
LEAST_SECONDS = 2.0


def spent(pid: int) -> float:
    """Return the CPU seconds of a process and of those of its children that have ended; 0 if it has ended itself."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return 0.0
    return sum(int(field) for field in fields[11:15]) / programs.TICKS


def record_request(handler: APIHandler) -> None:
    """Count a request that has changed something; in the place of `APIHandler.update_api_activity`."""
    if (
        handler._track_activity  # noqa: SLF001 (extensions set it)
        and handler.request.method not in ("GET", "HEAD", "OPTIONS")
        # In a full home a page tries to save again and again.
        and handler.get_status() < HTTPStatus.BAD_REQUEST
        # JupyterLab stores its layout below another path, by itself.
        and handler.request.path.startswith(f"{handler.base_url}api/")
        and getattr(handler, "_jupyter_current_user", None)
        and handler.get_argument("no_track_activity", None) is None
    ):
        handler.settings[_REQUESTS] = dt.datetime.now(dt.timezone.utc)


class Activity:
    """Knows how long nothing has been active."""

    def __init__(self, server: Any, control_groups: Slice) -> None:
        self._server, self._slice = server, control_groups
        self._settings: dict[str, Any] = server.web_app.settings
        self._prefix = os.environ.get("JUPYTERHUB_SERVICE_PREFIX", "/")
        self._looked, self._spent = time.monotonic(), self._spending()
        self._last: dt.datetime | None = None
        self._active = time.monotonic()
        APIHandler.update_api_activity = record_request

    def idle(self) -> float:
        """Return the seconds since the last activity, by a clock that does not jump."""
        settings, now = self._settings, time.monotonic()
        moments = [settings["started"], self._server.kernel_manager.last_kernel_activity]
        moments += settings["last_activity_times"].values()
        moments += [value for name, value in settings.items() if name.endswith(_SUFFIX)]
        last = max(moments)
        # After the clock was put back, later activity does not change the moment of the last.
        if last != self._last or last > dt.datetime.now(dt.timezone.utc):
            self._last, self._active = last, now
        return now - self._active

    def record(self) -> None:
        """Count this moment."""
        self._settings[_OWN] = dt.datetime.now(dt.timezone.utc)

    def look(self) -> None:
        """Record what computes, or has since the last look."""
        elapsed = time.monotonic() - self._looked
        if elapsed < LEAST_SECONDS:
            return
        before, self._spent = self._spent, self._spending()
        self._looked += elapsed
        used = {pid: seconds - before.get(pid, 0.0) for pid, seconds in self._spent.items()}
        cores = sum(seconds for pid, seconds in used.items() if seconds > 0 and self._is_ours(pid)) / elapsed
        if cores >= LEAST_CORES or self._kernel_is_busy():
            self.record()

    def _spending(self) -> dict[int, float]:
        return {pid: spent(pid) for pid in self._slice.processes() if pid != os.getpid()}

    def _is_ours(self, pid: int) -> bool:
        """Return whether a process belongs to this server and not to another one of the user's."""
        return programs.server_of(pid, self._spent) in (None, self._prefix)

    def _kernel_is_busy(self) -> bool:
        kernels = self._server.kernel_manager
        return any(
            getattr(kernels.get_kernel(kernel), "execution_state", "") == "busy" for kernel in kernels.list_kernel_ids()
        )
