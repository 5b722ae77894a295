#!/usr/bin/python3 -IS
"""
Look for mounts below a directory that hang, are dead or have lost their trigger. Runs as root, by a timer.

``watch_mounts.py DIRECTORY SECONDS METRICS ACTION`` probes the mounts at or below DIRECTORY, waits SECONDS at most, and
writes what it found to the journal and to METRICS, in the text format of Prometheus. What is certainly broken and comes
back without harm is repaired: a mount whose client has ended is unmounted if something mounts it again, and a trigger
of autofs or systemd that is missing is set up. With ACTION ``remount`` mounts that hang are given up, too (the
connection of a FUSE mount is aborted); with ``log`` they are only reported.

A mount of FUSE is probed by a listing of a directory in which somebody works, as that user: clients may answer statfs
from what they remember, and root may have no rights. One in which nobody works is not probed as long as its client
runs and no request waits, so that autofs can expire it and no server is asked for nothing.

Whoever asks a hung mount may sit in the kernel indefinitely, where no signal helps. So the probe is a process that
nobody waits for after the deadline. As long as one sits at a mount, no other is sent there.
"""

from __future__ import annotations

import glob
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

STATE = Path("/run/campushub-watch")
CONNECTIONS = Path("/sys/fs/fuse/connections")
ABORT_PATIENCE = 2.0
# Users' numbers begin here; clients run as root or as a user of their package.
FIRST_USER = 1000
SILENT = "it does not answer"
DISCONNECTED = "Transport endpoint is not connected"
# A server has said so, or a user has removed the directory: the mount works.
ANSWERS = ("Permission denied", "No such file or directory")


class Mount(NamedTuple):
    """A mount, as the kernel lists it."""

    place: str
    kind: str
    device: str

    @property
    def is_fuse(self) -> bool:
        """Return whether a process of the host serves it."""
        return self.kind.partition(".")[0] == "fuse"


class Table(NamedTuple):
    """The mounts at or below a directory: what is on top at each place, and the triggers of autofs and systemd."""

    mounts: list[Mount]
    triggers: set[str]


class Visitor(NamedTuple):
    """Somebody who works in a mount."""

    uid: int
    gid: int
    directory: str


class Processes(NamedTuple):
    """What the processes of the host tell about mounts."""

    # By the place of the mount.
    visitors: dict[str, list[Visitor]]
    # Clients of FUSE are told their place on the command line.
    arguments: set[str]


def is_at_or_below(place: str, directory: str) -> bool:
    """Return whether a path is a directory or below it."""
    return f"{place}/".startswith(f"{directory}/")


def read_table(directory: str, path: Path = Path("/proc/self/mountinfo")) -> Table:
    """Return what is mounted at or below a directory, without touching it."""
    top, triggers = {}, set()
    for line in path.read_text().splitlines():
        before, _, after = line.partition(" - ")
        _, _, device, _, place, *_ = before.split()
        if is_at_or_below(place, directory):
            top[place] = Mount(place, after.split()[0], device)
            if top[place].kind == "autofs":
                triggers.add(place)
    return Table([mount for mount in top.values() if mount.kind != "autofs"], triggers)


def read_processes(mounts: list[Mount]) -> Processes:
    """Return who works in each mount, and the arguments of the programs that are not of users."""
    places = sorted((mount.place for mount in mounts), key=len, reverse=True)
    visitors: dict[str, list[Visitor]] = {}
    arguments: set[str] = set()
    for number in filter(str.isdigit, os.listdir("/proc")):
        try:
            owner = os.stat(f"/proc/{number}")
            directory = os.readlink(f"/proc/{number}/cwd")
            place = next((place for place in places if is_at_or_below(directory, place)), "")
            if place:
                is_gone = directory.endswith(" (deleted)")
                visitor = Visitor(owner.st_uid, owner.st_gid, place if is_gone else directory)
                visitors.setdefault(place, []).append(visitor)
            # The command line of a user's process that sits at a hung mount could not be read, either.
            if owner.st_uid < FIRST_USER and int(number) != os.getpid():
                with open(f"/proc/{number}/cmdline") as file:
                    arguments.update(file.read().split("\0"))
        except (OSError, ValueError):
            # It has ended.
            continue
    return Processes(visitors, arguments)


def waiting(mount: Mount) -> int:
    """Return how many requests wait for the client of a FUSE mount; 0 for other kinds."""
    try:
        return int((CONNECTIONS / mount.device.partition(":")[2] / "waiting").read_text())
    except (OSError, ValueError):
        return 0


def started_at(number: int | str) -> str:
    """Return when a process was started as the kernel says it, or nothing if it has ended."""
    try:
        fields = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] == "Z" else fields[19]


def note_of(mount: Mount) -> Path:
    """Return the file that names the probe that sits at a mount."""
    return STATE / mount.place.strip("/").replace("/", "-")


def is_stuck(mount: Mount) -> bool:
    """Return whether a probe of an earlier look sits at this very mount still."""
    try:
        number, started, device = note_of(mount).read_text().split()
    except (OSError, ValueError):
        return False
    return device == mount.device and started == started_at(number)


def probe(mount: Mount, visitor: Visitor | None) -> subprocess.Popen[str]:
    """Send a process to a mount; it ends with an error on its standard error, or with nothing if the mount is well."""
    command = ["stat", "--file-system", "--format=", mount.place]
    if mount.is_fuse:
        directory = visitor.directory if visitor else mount.place
        command = ["find", directory, "-mindepth", "1", "-maxdepth", "1", "-quit"]
    return subprocess.Popen(
        command,
        user=visitor.uid if visitor else None,
        group=visitor.gid if visitor else None,
        extra_groups=[] if visitor else None,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        cwd="/",
        env={"LC_ALL": "C", "PATH": "/usr/bin:/bin"},
        # Clients remember credentials by session; this one is not to be taken for another.
        start_new_session=True,
        text=True,
    )


def answer_of(process: subprocess.Popen[str], mount: Mount, end: float) -> str:
    """Return what is wrong with a mount according to a probe, or nothing."""
    try:
        _, said = process.communicate(timeout=max(0.0, end - time.monotonic()))
    except subprocess.TimeoutExpired:
        note_of(mount).write_text(f"{process.pid} {started_at(process.pid)} {mount.device}")
        return SILENT
    problem = said.strip().rpartition(": ")[2]
    return "" if problem in ANSWERS else problem


def one_of(visitors: list[Visitor]) -> Visitor | None:
    """Return somebody to ask as: not root, if possible, and another one each time, for one may have no rights there."""
    candidates = [visitor for visitor in visitors if visitor.uid] or visitors
    return candidates[int(time.time()) % len(candidates)] if candidates else None


def look(table: Table, processes: Processes, seconds: float) -> dict[Mount, str]:
    """Return what is wrong with each mount, or nothing. They are probed side by side."""
    found, sent = {}, {}
    for mount in table.mounts:
        visitor = one_of(processes.visitors.get(mount.place, []))
        idle = mount.is_fuse and not visitor and mount.place in processes.arguments and not waiting(mount)
        if is_stuck(mount):
            found[mount] = SILENT
        elif idle:
            found[mount] = ""
        else:
            sent[mount] = probe(mount, visitor)
    end = time.monotonic() + seconds
    return {**found, **{mount: answer_of(process, mount, end) for mount, process in sent.items()}}


def give_up(mount: Mount) -> str:
    """Take a mount away, whoever waits for it; return what went wrong."""
    abort = CONNECTIONS / mount.device.partition(":")[2] / "abort"
    if mount.is_fuse and abort.exists():
        abort.write_text("1")
        # Those who sat there are let go, and with them what keeps the mount busy.
        end = time.monotonic() + ABORT_PATIENCE
        while is_stuck(mount) and time.monotonic() < end:
            time.sleep(0.05)
    return run("umount", "--lazy", mount.place)


def run(*command: str) -> str:
    """Run a program; return what it complains about if it fails."""
    done = subprocess.run(["timeout", "30", *command], capture_output=True, text=True, check=False)
    return (done.stderr.strip() or f"{command[0]} ended with {done.returncode}") if done.returncode else ""


def words_of(path: str) -> list[list[str]]:
    """Return the words of each line of a file that are no comment."""
    try:
        lines = Path(path).read_text().splitlines()
    except OSError:
        return []
    return [line.split() for line in lines if line.strip() and not line.startswith("#")]


def mounts_of_fstab(directory: str, path: str = "/etc/fstab") -> list[str]:
    """Return the places at or below a directory that /etc/fstab mounts when the host starts."""
    entries = [words for words in words_of(path) if len(words) > 3 and "noauto" not in words[3].split(",")]
    return [words[1] for words in entries if is_at_or_below(words[1], directory)]


def expected_triggers(directory: str, root: str = "/") -> dict[str, str]:
    """Return the places at or below a directory at which triggers belong, each with the unit that sets it up."""
    found = {}
    for path in [f"{root}etc/auto.master", *sorted(glob.glob(f"{root}etc/auto.master.d/*.autofs"))]:
        for words in words_of(path):
            # A direct map names the places itself.
            direct = words_of(root + words[1].lstrip("/")) if words[0] == "/-" and len(words) > 1 else [words]
            found.update({place: "autofs.service" for place, *_ in direct})
    for directories in ("etc/systemd/system", "run/systemd/generator"):
        for path in glob.glob(f"{root}{directories}/*.automount"):
            for line in Path(path).read_text().splitlines():
                if line.startswith("Where="):
                    found[line.removeprefix("Where=").strip()] = os.path.basename(path)
    return {place: unit for place, unit in found.items() if is_at_or_below(place, directory)}


def has_lost(unit: str) -> bool:
    """Return whether a unit lacks a trigger because somebody has unmounted it, and not because it was stopped."""
    command = ["systemctl", "show", "--value", "--property=ActiveState", unit]
    state = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    return state == ("active" if unit == "autofs.service" else "failed")


def missing_triggers(directory: str, table: Table) -> dict[str, str]:
    """Return the triggers that somebody has unmounted, each with its unit."""
    there = table.triggers | {mount.place for mount in table.mounts}
    missing = {place: unit for place, unit in expected_triggers(directory).items() if place not in there}
    lost = {unit for unit in set(missing.values()) if has_lost(unit)}
    return {place: unit for place, unit in missing.items() if unit in lost}


def metrics(found: dict[Mount, str], missing: dict[str, str]) -> str:
    """Return what was found in the text format of Prometheus."""
    up = {**{mount.place: 0 if why else 1 for mount, why in found.items()}, **dict.fromkeys(missing, 0)}
    lines = [
        "# HELP campushub_mount_up Whether a network file system answers; without users, whether its client runs.",
        "# TYPE campushub_mount_up gauge",
        *(f'campushub_mount_up{{mount="{place}"}} {value}' for place, value in up.items()),
        "# HELP campushub_mount_waiting_requests Requests that wait for the client of a FUSE mount.",
        "# TYPE campushub_mount_waiting_requests gauge",
        *(f'campushub_mount_waiting_requests{{mount="{mount.place}"}} {waiting(mount)}' for mount in found),
    ]
    return "\n".join(lines) + "\n"


def repair(found: dict[Mount, str], table: Table, processes: Processes, directory: str, action: str) -> None:
    """Give up what is dead and comes back, or all that is not well if the site says so, and mount it again."""
    of_fstab = mounts_of_fstab(directory)
    given_up = []
    for mount, why in found.items():
        if not why:
            continue
        print(f"{mount.place} ({mount.kind}): {why}; {waiting(mount)} requests wait", file=sys.stderr)
        # Some clients say so while they run: that of GlusterFS does until its servers are back.
        is_dead = mount.is_fuse and why == DISCONNECTED and mount.place not in processes.arguments
        comes_back = mount.place in of_fstab or {mount.place, os.path.dirname(mount.place)} & table.triggers
        if action == "remount" or (is_dead and comes_back):
            given_up.append(mount.place)
            print(f"{mount.place}: {give_up(mount) or 'given up, to be mounted again'}", file=sys.stderr)
    # What is mounted when somebody looks into it comes back by itself; the rest does not.
    there = table.triggers | {mount.place for mount in table.mounts} - set(given_up)
    for place in of_fstab:
        if place not in there and (action == "remount" or place in given_up):
            print(f"{place}: {run('mount', place) or 'mounted again'}", file=sys.stderr)


def main(directory: str, seconds: float, destination: Path, action: str) -> None:
    """Look once, report and repair."""
    STATE.mkdir(mode=0o700, exist_ok=True)
    table = read_table(directory)
    fuse = [mount for mount in table.mounts if mount.is_fuse]
    processes = read_processes(fuse) if fuse else Processes({}, set())
    found = look(table, processes, seconds)
    missing = missing_triggers(directory, table)
    destination.parent.mkdir(parents=True, exist_ok=True)
    new = destination.with_name(f".{destination.name}.new")
    new.write_text(metrics(found, missing))
    new.chmod(0o644)
    new.replace(destination)
    repair(found, table, processes, directory, action)
    for unit in sorted(set(missing.values())):
        places = ", ".join(place for place, of in missing.items() if of == unit)
        problem = run("systemctl", "reload" if unit == "autofs.service" else "start", unit)
        print(f"{places}: nothing waits there to mount it; {problem or f'set up again by {unit}'}", file=sys.stderr)


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]), Path(sys.argv[3]), sys.argv[4])
