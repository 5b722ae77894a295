"""
What a user uses of their limits, from the control groups of the slice in which everything of theirs runs.

Version 2 of control groups goes first; with version 1 each controller has a hierarchy of its own. What cannot be read
is unknown, None, and nothing fails for it.
"""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import NamedTuple

# Version 1 says "no limit" with the largest number of pages.
_UNLIMITED = 1 << 60


def _number(path: Path) -> int | None:
    """Return the number in a file; "max" and whatever else is no number, is None."""
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


def _field(path: Path, name: str) -> int | None:
    """Return the number after a name in a file of such lines."""
    try:
        lines = path.read_text().splitlines()
        return next((int(line.split()[1]) for line in lines if line.startswith(f"{name} ")), None)
    except (OSError, ValueError, IndexError):
        return None


def _mounts(text: str) -> dict[str, tuple[str, Path]]:
    """Return root and mount point of each controller, and of version 2 under an empty name, from a mountinfo file."""
    found = {}
    # Whoever may mount names the place, in any bytes but those that the kernel escapes.
    for line in text.split("\n"):
        mount, _, file_system = line.partition(" - ")
        about, of_kind = mount.split(" "), file_system.split(" ")
        if len(about) < 6 or len(of_kind) < 3:
            continue
        root, point, kind, options = about[3], about[4], of_kind[0], of_kind[2]
        # What is mounted later hides what was there before.
        if kind == "cgroup2":
            found[""] = root, Path(point)
        elif kind == "cgroup":
            found |= dict.fromkeys(options.split(","), (root, Path(point)))
    return found


def _below(top: Path | None) -> list[Path]:
    """Return a control group and all below it."""
    return [Path(directory) for directory, _, _ in os.walk(top)] if top else []


class Memory(NamedTuple):
    """Bytes in use, without cached files, which give way before anything is killed; the most there may be, and were."""

    used: int
    limit: int | None
    peak: int | None

    @property
    def room(self) -> float:
        """How many bytes are left."""
        return math.inf if self.limit is None else self.limit - self.used


class Slice:
    """The control groups of a slice, or those of this process where it is in no such slice."""

    def __init__(self, name: str, process: Path = Path("/proc/self")) -> None:
        self._name = name
        self._directories: dict[str, Path] = {}
        # Those of this process itself, and outside of the slice those above them: a job of Slurm has its limit there.
        self._own: dict[str, Path] = {}
        self._above: dict[str, list[Path]] = {}
        try:
            mounts = _mounts(os.fsdecode((process / "mountinfo").read_bytes()))
            lines = (process / "cgroup").read_text().splitlines()
        except (OSError, ValueError):
            return
        groups = [line.split(":", 2)[1:] for line in lines if line.count(":") >= 2]
        inside = any(name in path.split("/") for _, path in groups)
        for controllers, path in groups:
            # The top of a hierarchy is the host's; and one in which the slice is not counts others as well.
            if path == "/" or (inside and name not in path.split("/")):
                continue
            for controller in controllers.split(","):
                if controller in mounts:
                    root, point = mounts[controller]
                    self._directories[controller] = point / self._top(path).removeprefix(root).lstrip("/")
                    own = self._own[controller] = point / path.removeprefix(root).lstrip("/")
                    if not inside:
                        self._above[controller] = [above for above in own.parents if above.is_relative_to(point)][:-1]
        self._unified = "" in self._directories and (self._directories[""] / "memory.current").exists()

    _unified = False

    def _top(self, path: str) -> str:
        parts = path.split("/")
        return "/".join(parts[: parts.index(self._name) + 1]) if self._name in parts else path

    def _groups(self, controller: str) -> list[Path]:
        """Return the control group of the slice, and that of this server, which may have a limit of its own."""
        name = "" if self._unified else controller
        return list(dict.fromkeys(found[name] for found in (self._directories, self._own) if name in found))

    def memory(self) -> Memory | None:
        """Return what is in use of the limit that is nearest: the user's, or one of this server's own."""
        groups = self._groups("memory") + self._above.get("" if self._unified else "memory", [])
        found = [memory for group in groups if (memory := self._memory(group))]
        return min(found, key=lambda memory: memory.room, default=None)

    def _memory(self, group: Path) -> Memory | None:
        used = _number(group / ("memory.current" if self._unified else "memory.usage_in_bytes"))
        if used is None:
            return None
        cached = _field(group / "memory.stat", "inactive_file" if self._unified else "total_inactive_file") or 0
        limit = _number(group / ("memory.max" if self._unified else "memory.limit_in_bytes"))
        peak = _number(group / ("memory.peak" if self._unified else "memory.max_usage_in_bytes"))
        return Memory(max(0, used - cached), limit if limit is not None and limit < _UNLIMITED else None, peak)

    def cpu_seconds(self) -> float | None:
        """Return the processor time that was used by what the limit is for."""
        if self._unified:
            microseconds = _field(self._limiting("cpu") / "cpu.stat", "usage_usec")
            return None if microseconds is None else microseconds / 1e6
        nanoseconds = _number(self._limiting("cpuacct") / "cpuacct.usage")
        return None if nanoseconds is None else nanoseconds / 1e9

    def cpu_limit(self) -> float | None:
        """Return the CPU cores that may be in use, by the narrower of the user's limit and one of this server's own."""
        return min(filter(None, map(self._cores, self._groups("cpu"))), default=None)

    def _cores(self, group: Path) -> float | None:
        try:
            if self._unified:
                quota, period = map(int, (group / "cpu.max").read_text().split())
            else:
                quota, period = (int((group / f"cpu.cfs_{name}_us").read_text()) for name in ("quota", "period"))
        except (OSError, ValueError):
            return None
        return quota / period if quota > 0 else None

    def _limiting(self, controller: str) -> Path:
        """Return the control group with the narrower limit of processor time, as a controller has it."""
        limits = [self._cores(group) or math.inf for group in self._groups("cpu")]
        groups = self._groups(controller) or [Path("/nonexistent")]
        return groups[limits.index(min(limits)) if len(limits) == len(groups) else 0]

    def out_of_memory_kills(self) -> dict[str, int]:
        """
        Return how many processes of this server were killed for the limit, by control group.

        The user's other servers tell of theirs.
        """
        if self._unified:
            # With those below it.
            groups, name = [self._own[""]], "memory.events"
        else:
            # Counted where the killed process was, and not above.
            groups, name = _below(self._own.get("memory")), "memory.oom_control"
        return {str(group): kills for group in groups if (kills := _field(group / name, "oom_kill")) is not None}

    def processes(self) -> list[int]:
        """Return the numbers of all processes."""
        found = []
        for group in _below(self._directories.get("" if self._unified else "memory")):
            try:
                found += [int(line) for line in (group / "cgroup.procs").read_text().split()]
            except OSError:
                continue
        return found


class KillCounter:
    """Tells kills for want of memory that somebody has asked about from those that nobody has."""

    def __init__(self, control_groups: Slice) -> None:
        self._slice = control_groups
        self._seen = control_groups.out_of_memory_kills()
        self._unclaimed: list[float] = []

    @property
    def pending(self) -> bool:
        """Whether there are some that nobody has asked about."""
        return bool(self._unclaimed)

    def update(self, now: float) -> None:
        """Look for new ones."""
        counted = self._slice.out_of_memory_kills()
        # A control group that has gone takes its count along.
        new = sum(max(0, kills - self._seen.get(group, 0)) for group, kills in counted.items())
        self._seen = counted
        self._unclaimed += [now] * new

    def claim(self, before: float) -> bool:
        """Return whether there was one up to a moment, which then counts no more."""
        if self._unclaimed and self._unclaimed[0] <= before:
            self._unclaimed.pop(0)
            return True
        return False
