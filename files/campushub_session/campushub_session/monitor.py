"""Watches what a user uses of their limits, and kernels and programs that are killed for want of memory."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jupyter_server.services.events.handlers import SubscribeWebsocket
from tornado.ioloop import PeriodicCallback
from tornado.web import HTTPError

from . import programs
from .activity import Activity
from .announcements import AnnouncementFile
from .cgroups import KillCounter, Slice
from .ends import Ends
from .events import ANNOUNCEMENT, END, OUT_OF_MEMORY, USAGE
from .home import Home
from .space import Space

if TYPE_CHECKING:
    import subprocess

    from .model import Amount, Program, Usage

KERNEL_ACTIONS = "https://events.jupyter.org/jupyter_server/kernel_actions/v1"
# Milliseconds between two looks at kills, at usage, at announcements, at ends, at what computes, and at the home, which
# may be remote.
KILLS_INTERVAL, USAGE_INTERVAL, ANNOUNCEMENT_INTERVAL, ENDS_INTERVAL = 1_000, 5_000, 5_000, 1_000
ACTIVITY_INTERVAL, HOME_INTERVAL = 30_000, 60_000
# Seconds that a kernel which was killed has to end, before the kill counts as that of another program.
KERNEL_END = 1.5
# Seconds over which the use of CPU by single programs is measured when somebody asks.
SAMPLE = 0.3
# A program that is gone and was smaller than this part of the limit was hardly the one that was killed.
LEAST_SHARE = 10
# The part of the limit from which on the programs are looked at each second.
NEAR = 0.6
# Seconds between SIGTERM and SIGKILL for a program that somebody shuts down.
PATIENCE = 5.0


class Monitor:
    """Tells open pages, by events, what has changed. Without a page that listens an event costs nothing."""

    def __init__(self, server: Any, control_groups: Slice, announcements: AnnouncementFile) -> None:
        self._server, self._log, self.slice = server, server.log, control_groups
        self.announcements = announcements
        self.activity = Activity(server, control_groups)
        self.ends = Ends(self.activity, lambda end: self._emit(END, end), self._pages)
        self._kills = KillCounter(control_groups)
        self.home = Home(Path.home())
        self.space = Space(Path.home())
        self._processes: dict[int, programs.Process] = {}
        self._cpu_read: tuple[float, float | None] = (time.monotonic(), control_groups.cpu_seconds())
        self._cores: float | None = None
        self._kernels: dict[str, int] = {}
        self._told: Any = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._callbacks = [
            PeriodicCallback(self.look_for_kills, KILLS_INTERVAL),
            PeriodicCallback(self.look_at_usage, USAGE_INTERVAL),
            PeriodicCallback(self.look_for_announcement, ANNOUNCEMENT_INTERVAL),
            PeriodicCallback(self.ends.check, ENDS_INTERVAL),
            PeriodicCallback(self.activity.look, ACTIVITY_INTERVAL),
            PeriodicCallback(self.home.refresh, HOME_INTERVAL),
        ]

    def start(self) -> None:
        """Begin."""
        self.home.refresh()
        self.announcements.refresh()
        self._server.event_logger.add_listener(schema_id=KERNEL_ACTIONS, listener=self._on_kernel_action)
        for callback in self._callbacks:
            callback.start()

    def stop(self) -> None:
        """End."""
        for callback in self._callbacks:
            callback.stop()
        for kernel in list(self._kernels):
            self._forget_kernel(kernel)

    def _emit(self, schema: str, data: Any) -> None:
        self._server.event_logger.emit(schema_id=schema, data=data)

    def _pages(self) -> set[Any]:
        """Return the connections over which open pages are told of an end."""
        listeners = self._server.event_logger._modified_listeners[END]  # noqa: SLF001 (nothing else says it)
        owners = {getattr(listener, "__self__", None) for listener in listeners}
        return {owner for owner in owners if isinstance(owner, SubscribeWebsocket) and owner.ws_connection}

    # Usage

    def usage(self) -> Usage:
        """Return what is in use now."""
        memory = self.slice.memory()
        return {
            "memory": None if memory is None else {"used": memory.used, "limit": memory.limit},
            "cpu": None if self._cores is None else {"used": self._cores, "limit": self.slice.cpu_limit()},
            "home": self.home.amount(),
            "home_files": self.home.amount("files"),
            "seconds_left": self.ends.age_left(),
        }

    def look_at_usage(self) -> None:
        """Tell what has changed enough to be seen."""
        before, seconds = self._cpu_read
        self._cpu_read = now, total = time.monotonic(), self.slice.cpu_seconds()
        self._cores = None if total is None or seconds is None else max(0.0, total - seconds) / (now - before)
        self._remember_programs()
        usage = self.usage()
        left = usage["seconds_left"]
        # Pages count down by themselves.
        ends = None if left is None else round((time.monotonic() + left) / 60)
        amounts = (usage["memory"], usage["cpu"], usage["home"], usage["home_files"])
        seen = [*map(_rounded, amounts), ends]
        if seen != self._told:
            self._told = seen
            self._emit(USAGE, usage)

    def look_for_announcement(self) -> None:
        """Tell of another announcement."""
        if self.announcements.refresh():
            self._emit(ANNOUNCEMENT, self.announcements.announcement)

    # Kills

    def look_for_kills(self) -> None:
        """Tell of programs that were killed and are no kernels."""
        now, memory = time.monotonic(), self.slice.memory()
        limit = memory.limit if memory and memory.limit else 0
        if memory and limit and memory.used > limit * NEAR:
            self._remember_programs()
        self._kills.update(now)
        while self._kills.claim(now - KERNEL_END):
            self._tell_of_kill(None, programs.lost(self._processes, self.slice.processes(), limit // LEAST_SHARE))

    def _remember_programs(self) -> None:
        """Note what runs, so that the program that is killed next has a name; not while one is still to be told of."""
        self._kills.update(time.monotonic())
        if not self._kills.pending:
            self._processes = programs.snapshot(self.slice.processes())

    async def _on_kernel_action(self, data: dict[str, Any], **_about: Any) -> None:
        """Watch the process of a kernel that has started, for the first time or again."""
        kernel = data.get("kernel_id", "")
        if data.get("status") != "success" or data["action"] == "interrupt":
            return
        self._forget_kernel(kernel)
        if data["action"] == "shutdown":
            return
        # Kernels of other provisioners are no children of this process, and may run on another host.
        process = getattr(self._server.kernel_manager.get_kernel(kernel).provisioner, "process", None)
        if process is None:
            return
        try:
            descriptor = os.pidfd_open(process.pid)
        except OSError:
            return
        self._kernels[kernel] = descriptor
        asyncio.get_running_loop().add_reader(descriptor, self._on_kernel_end, kernel, process)

    def _forget_kernel(self, kernel: str) -> None:
        if (descriptor := self._kernels.pop(kernel, None)) is not None:
            asyncio.get_event_loop().remove_reader(descriptor)
            os.close(descriptor)

    def _on_kernel_end(self, kernel: str, process: subprocess.Popen[bytes]) -> None:
        """Tell of a kernel that was killed."""
        self._forget_kernel(kernel)
        if process.poll() == -signal.SIGKILL:
            task = asyncio.ensure_future(self._explain_kill(kernel))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _explain_kill(self, kernel: str) -> None:
        now = time.monotonic()
        self._kills.update(now)
        if self._kills.claim(now):
            sessions = await self._server.session_manager.list_sessions()
            names = [session["path"] for session in sessions if session["kernel"]["id"] == kernel]
            self._tell_of_kill(kernel, names[0] if names else "")

    def _tell_of_kill(self, kernel: str | None, name: str) -> None:
        memory = self.slice.memory()
        peak, limit = (memory.peak, memory.limit) if memory else (None, None)
        what = f"The kernel {kernel}" if kernel else "A program"
        # In the journal.
        self._log.error("%s was killed for want of memory: %s (peak %s, limit %s bytes)", what, name, peak, limit)
        self._emit(OUT_OF_MEMORY, {"kernel_id": kernel, "name": name, "peak": peak, "limit": limit})

    # Programs

    async def list_programs(self) -> list[Program]:
        """Return what runs, the largest first."""
        before = programs.snapshot(self.slice.processes())
        started = time.monotonic()
        owners = await self._kernel_owners()
        owners[os.getpid()] = programs.Owner("server", os.environ.get("JUPYTERHUB_SERVER_NAME", ""), "")
        terminals = self._server.web_app.settings.get("terminal_manager")
        for name, terminal in (terminals.terminals if terminals else {}).items():
            owners[terminal.ptyproc.pid] = programs.Owner("terminal", name, f"api/terminals/{name}")
        await asyncio.sleep(SAMPLE)
        now = programs.snapshot(self.slice.processes())
        return programs.grouped(before, now, time.monotonic() - started, owners, os.getpid())

    async def _kernel_owners(self) -> dict[int, programs.Owner]:
        kernels = self._server.kernel_manager
        sessions = {session["kernel"]["id"]: session for session in await self._server.session_manager.list_sessions()}
        owners: dict[int, programs.Owner] = {}
        for kernel in kernels.list_kernel_ids():
            manager = kernels.get_kernel(kernel)
            if pid := getattr(manager.provisioner, "pid", None):
                session = sessions.get(kernel)
                name = session["path"] if session else manager.kernel_name
                address = f"api/sessions/{session['id']}" if session else f"api/kernels/{kernel}"
                owners |= dict.fromkeys((pid, *programs.accompanied(pid)), programs.Owner("kernel", name, address))
        return owners

    async def end_process(self, identity: str) -> None:
        """End a process of the user. Raises HTTPError for what is none, and for this server."""
        pid = int(identity.partition("-")[0])
        if pid not in self.slice.processes() or pid == os.getpid():
            raise HTTPError(404, "There is no such program.")
        try:
            descriptor = os.pidfd_open(pid)
        except OSError as error:
            raise HTTPError(404, "There is no such program.") from error
        try:
            # Looked up after the descriptor was opened, which from then on means this process and no later one.
            process = programs.read(pid)
            if not process or process.identity != identity:
                raise HTTPError(404, "There is no such program.")
            for number in (signal.SIGTERM, signal.SIGKILL):
                signal.pidfd_send_signal(descriptor, number)
                if await _ended(descriptor, PATIENCE):
                    return
        except ProcessLookupError:
            return
        except PermissionError as error:
            raise HTTPError(403, "This program is not yours.") from error
        finally:
            os.close(descriptor)


async def _ended(descriptor: int, seconds: float) -> bool:
    """Wait for the end of a process; return whether it came."""
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(descriptor, ended.set)
    try:
        await asyncio.wait_for(ended.wait(), seconds)
    except asyncio.TimeoutError:
        return False
    finally:
        loop.remove_reader(descriptor)
    return True


def _rounded(amount: Amount | None) -> float | None:
    """Return an amount as exactly as a page shows it: a hundredth of the limit, or two digits."""
    if amount is None:
        return None
    return round(amount["used"] / amount["limit"], 2) if amount["limit"] else float(f"{amount['used']:.2g}")
