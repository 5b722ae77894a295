"""The programs of a user, by what started them: kernels, terminals, displays, servers, and the rest one by one."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from .model import Program

TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
_PROC = Path("/proc")
_PREFIX = "JUPYTERHUB_SERVICE_PREFIX"
# What has a script as an argument is known by that.
_INTERPRETERS = ("python", "bash", "sh", "perl", "Rscript", "java", "node", "julia")


class Owner(NamedTuple):
    """What processes are counted to: a program of the server, with the address that shuts it down."""

    kind: str
    name: str
    address: str


@dataclass
class Process:
    """One process as it is at a moment."""

    pid: int
    parent: int
    started: int
    memory: int  # bytes that are its own
    seconds: float
    command: str

    @property
    def identity(self) -> str:
        """Its number with its start time, which tells it from a later one with that number."""
        return f"{self.pid}-{self.started}"


def read(pid: int) -> Process | None:
    """Return a process, or None if it has ended."""
    try:
        stat = (_PROC / str(pid) / "stat").read_text(errors="replace")
        resident, shared = map(int, (_PROC / str(pid) / "statm").read_text().split()[1:3])
    except (OSError, ValueError):
        return None
    command = stat[stat.index("(") + 1 : stat.rindex(")")]
    fields = stat[stat.rindex(")") + 2 :].split()
    # Numbers as in proc(5), less the three first.
    seconds = (int(fields[11]) + int(fields[12])) / TICKS
    return Process(pid, int(fields[1]), int(fields[19]), max(0, resident - shared) * _PAGE, seconds, command)


def accompanied(pid: int) -> list[int]:
    """Return the processes that a process has a handle of, as the client of a forked kernel has of that."""
    found = []
    try:
        for entry in (_PROC / str(pid) / "fdinfo").iterdir():
            found += [int(line.split()[1]) for line in entry.read_text().splitlines() if line.startswith("Pid:")]
    except (OSError, ValueError):
        return []
    return [number for number in found if number > 0]


def snapshot(pids: list[int]) -> dict[int, Process]:
    """Return the processes that are still there."""
    return {pid: process for pid in pids if (process := read(pid))}


def name_of(process: Process) -> str:
    """Return a program's name, with its script; other arguments may be secret."""
    try:
        arguments = (_PROC / str(process.pid) / "cmdline").read_bytes().split(b"\0")
        words = [argument.decode(errors="replace") for argument in arguments]
    except OSError:
        return process.command
    program = Path(words[0]).name or process.command
    if program.startswith(_INTERPRETERS) and len(words) > 1 and words[1] and not words[1].startswith("-"):
        return f"{program} {Path(words[1]).name}"
    return program


def environment(pid: int, *names: str) -> dict[str, str]:
    """Return variables of a process, as it was started."""
    try:
        pairs = (_PROC / str(pid) / "environ").read_bytes().split(b"\0")
    except OSError:
        return {}
    variables = dict(pair.decode(errors="replace").partition("=")[::2] for pair in pairs)
    return {name: variables[name] for name in names if name in variables}


def server_of(pid: int, pids: Iterable[int]) -> str | None:
    """Return the address of the server that one of a user's processes belongs to, as far as it was told."""
    found = environment(pid, _PREFIX)
    if not found:
        # A fork was started with the environment of its service, and its client with that of the server.
        client = next((other for other in pids if pid in accompanied(other)), None)
        found = environment(client, _PREFIX) if client else {}
    return found.get(_PREFIX)


def _ancestor(process: Process, processes: dict[int, Process], owners: dict[int, Owner]) -> int | None:
    """Return the nearest of the owners' processes above a process, or itself."""
    seen: set[int] = set()
    pid = process.pid
    while pid not in owners:
        if pid not in processes or pid in seen:
            return None
        seen.add(pid)
        pid = processes[pid].parent
    return pid


def _other(process: Process, prefix: str, pids: Iterable[int]) -> Owner:
    """Return the owner of a process that this server has not started as a kernel or a terminal."""
    found = environment(process.pid, "JUPYTER_DISPLAY_DIR")
    theirs = server_of(process.pid, pids) or prefix
    if theirs != prefix:
        # By the name of the server, which the hub's home page has.
        return Owner("server", theirs.strip("/").partition("/")[2].partition("/")[2], "")
    if "JUPYTER_DISPLAY_DIR" in found:
        number = Path(found["JUPYTER_DISPLAY_DIR"]).name
        return Owner("display", f"display/{number}", f"api/displays/{number}")
    return Owner("process", name_of(process), f"api/session/processes/{process.identity}")


def grouped(
    before: dict[int, Process], now: dict[int, Process], seconds: float, owners: dict[int, Owner], server: int
) -> list[Program]:
    """Return programs, the largest first; their use of CPU is that between two moments."""
    # Not as it was started: a server that is a fork has been told later.
    prefix = os.environ.get(_PREFIX, "/")
    programs: dict[Owner, Program] = {}
    for process in now.values():
        pid = _ancestor(process, now, owners)
        # What else the server has started is on its own.
        own = pid in owners and (pid != server or process.pid == server)
        owner = owners[pid] if pid and own else _other(process, prefix, now)
        program = programs.setdefault(
            owner, {"kind": owner.kind, "name": owner.name, "memory": 0, "cpu": 0.0, "address": owner.address}
        )
        program["memory"] += process.memory
        earlier = before.get(process.pid)
        program["cpu"] += max(0.0, process.seconds - (earlier.seconds if earlier else 0.0)) / seconds
    return sorted(programs.values(), key=lambda program: -program["memory"])


def lost(before: dict[int, Process], pids: list[int], least: int) -> str:
    """Return the name of the largest process that has gone since and was not smaller than that, or nothing."""
    gone = [process for pid, process in before.items() if pid not in pids and process.memory >= least]
    return max(gone, key=lambda process: process.memory).command if gone else ""
