"""Processes that outlive the server that started them: recovered, watched and ended without races.

A process is known by its id and the time at which it started, so that an id that the system has given
to another process in the meantime is never mistaken for it. Watching uses the kernel's process
descriptors: no polling, and it works for processes that another server started.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
from pathlib import Path
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence


def start_time(pid: int) -> int:
    """Return when a process started, in ticks since boot, or 0 if there is no such living process."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return 0
    return 0 if fields[0] in "ZX" else int(fields[19])


class Process:
    """A process in a session of its own."""

    def __init__(self, pid: int, started: int, popen: subprocess.Popen[bytes] | None = None) -> None:
        """Take hold of a process; `alive` tells whether it is there."""
        self.pid = pid
        self.started = started
        self.exit_code: int | None = None
        self._popen = popen
        self._fd = -1
        with contextlib.suppress(OSError):
            self._fd = os.pidfd_open(pid)
        # The id may have been given away before the descriptor was opened; not afterwards.
        if popen is None and (not started or start_time(pid) != started):
            self.close()

    @classmethod
    def start(
        cls,
        command: Sequence[str],
        env: Mapping[str, str],
        log: IO[bytes],
        cwd: Path,
        keeps: Sequence[int] = (),
        *,
        reads: bool = False,
        stdin: int = subprocess.DEVNULL,
    ) -> Process:
        """Start a program that writes to `log`, has some open files of this process, and may read what it is told.

        Raises:
            OSError: The program cannot be started.
        """
        popen = subprocess.Popen(
            command,
            env=env,
            cwd=cwd,
            stdin=subprocess.PIPE if reads else stdin,
            stdout=log,
            stderr=log,
            start_new_session=True,
            pass_fds=keeps,
        )
        return cls(popen.pid, start_time(popen.pid), popen)

    def write_line(self, line: str) -> None:
        """Tell a program that was started here the one thing that it waits for, if it is still there."""
        if self._popen and self._popen.stdin:
            with contextlib.suppress(OSError), self._popen.stdin as words:
                words.write(f"{line}\n".encode())

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        if self._fd < 0:
            return False
        if self._popen is not None:
            self.exit_code = self._popen.poll()
            return self.exit_code is None
        return start_time(self.pid) == self.started

    def when_ended(self, callback: Callable[[Process], None]) -> None:
        """Call back once, from the event loop, when the process has ended."""
        loop = asyncio.get_running_loop()
        if self._fd < 0:
            loop.call_soon(callback, self)
            return

        def ended() -> None:
            loop.remove_reader(self._fd)
            if not self.alive:
                self.close()
            callback(self)

        loop.add_reader(self._fd, ended)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to this very process, if it is there."""
        if self._fd >= 0:
            with contextlib.suppress(OSError):
                signal.pidfd_send_signal(self._fd, number)

    async def ended(self, seconds: float) -> bool:
        """Wait for the end for at most so long; return whether it has come."""
        deadline = asyncio.get_running_loop().time() + seconds
        while self.alive:
            if asyncio.get_running_loop().time() > deadline:
                return False
            await asyncio.sleep(0.01)
        return True

    def close(self) -> None:
        """Let go of the process, which may go on."""
        if self._fd >= 0:
            with contextlib.suppress(RuntimeError, ValueError, OSError):
                asyncio.get_running_loop().remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1


def with_variable(name: str, value: str) -> list[int]:
    """Return the ids of this user's processes that have an environment variable with this value."""
    wanted = f"{name}={value}".encode()
    found = []
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if entry.stat().st_uid == os.getuid() and wanted in Path(entry, "environ").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
    return found


def memory(pids: Iterable[int]) -> int:
    """Return the memory that processes have for themselves, in bytes: what is shared is not counted."""
    pages = 0
    for pid in pids:
        with contextlib.suppress(OSError, ValueError):
            fields = Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()
            pages += int(fields[1]) - int(fields[2])
    return pages * os.sysconf("SC_PAGE_SIZE")
