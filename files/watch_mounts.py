#!/usr/bin/python3 -IS
"""
Look for mounts below directories that hang, are dead or have lost their trigger. Runs as root, by a timer.

``watch_mounts.py DIRECTORY[:DIRECTORY…] SECONDS METRICS ACTION`` probes the mounts at or below each, waits SECONDS at
most, and writes what it found to the journal and to METRICS, in the text format of Prometheus. What is certainly broken
and comes back without harm is repaired: a mount whose client has ended is unmounted if something mounts it again, and a
trigger of autofs or systemd that is missing is set up. With ACTION ``remount`` mounts that hang are given up, too (the
connection of a FUSE mount is aborted); with ``log`` they are only reported.

A mount of FUSE is probed by a listing of a directory in which somebody works, as that user: clients may answer statfs
from what they remember, and root may have no rights. One in which nobody works is not probed as long as its client
runs and no request waits, so that autofs can expire it and no server is asked for nothing.

Clients of CVMFS, from version 2.13.2 on, have metrics of their own, which are added to METRICS. They are asked by their
sockets, as cvmfs_talk(1) does; that program reads the client's settings first, and these may be in a mount that hangs.

Whoever asks a hung mount may sit in the kernel indefinitely, where no signal helps. So a probe is a process that nobody
waits for after the deadline. As long as one sits at a mount, no other is sent there.

This runs once a minute on every host and imports only what costs nothing: no pathlib, no typing, no re.
"""

from __future__ import annotations

import os
import select
import sys
import time

STATE = "/run/campushub-watch"
CONNECTIONS = "/sys/fs/fuse/connections"
ABORT_PATIENCE = 2.0
# Users' numbers begin here; clients run as root or as a user of their package.
FIRST_USER = 1000
# What the client of one repository tells is a few kilobytes.
LONGEST_ANSWER = 1 << 20
SILENT = "it does not answer"
DISCONNECTED = "Transport endpoint is not connected"


class Mount:
    """A mount, as the kernel lists it."""

    def __init__(self, place: str, kind: str, device: str) -> None:
        self.place, self.kind, self.device = place, kind, device
        # A process of the host serves it.
        self.is_fuse = kind.partition(".")[0] == "fuse"


class Table:
    """The mounts at or below directories: what is on top at each place, and the triggers of autofs and systemd."""

    def __init__(self, mounts: list[Mount], triggers: set[str]) -> None:
        self.mounts, self.triggers = mounts, triggers


class Visitor:
    """Somebody who works in a mount."""

    def __init__(self, uid: int, gid: int, directory: str) -> None:
        self.uid, self.gid, self.directory = uid, gid, directory


class Processes:
    """What the processes of the host tell: who works in a mount, by its place, and what serves it, by its device."""

    def __init__(self, visitors: dict[str, list[Visitor]], clients: dict[str, str]) -> None:
        self.visitors, self.clients = visitors, clients


def text_of(path: str) -> str:
    """Return what is in a file; without Python's buffers, which take twice as long as the file."""
    with open(path, "rb", buffering=0) as file:
        return file.read().decode("utf-8", "surrogateescape")


def is_at_or_below(place: str, *directories: str) -> bool:
    """Return whether a path is one of the directories or below it."""
    return any(f"{place}/".startswith(f"{directory}/") for directory in directories)


def is_of_user(options: str) -> bool:
    """Return whether a user has made a mount of FUSE, by its options, in which the kernel says who has."""
    numbers = [option.removeprefix("user_id=") for option in options.split(",") if option.startswith("user_id=")]
    return any(int(number) >= FIRST_USER for number in numbers if number.isdigit())


def read_table(directories: list[str], path: str = "/proc/self/mountinfo") -> Table:
    """Return what is mounted at or below directories, without touching it.

    What users have mounted there is theirs, as is what it hides: they name the place, in any bytes but those that the
    kernel escapes, and could have another one there the next moment.
    """
    top: dict[str, Mount] = {}
    triggers = set()
    for line in text_of(path).split("\n"):
        before, _, after = line.partition(" - ")
        about, of_kind = before.split(" "), after.split(" ")
        if len(about) < 6 or len(of_kind) < 3 or not is_at_or_below(about[4], *directories):
            continue
        place = about[4]
        top[place] = Mount(place, of_kind[0], about[2])
        if top[place].kind == "autofs":
            triggers.add(place)
        elif top[place].is_fuse and is_of_user(of_kind[2]):
            del top[place]
    return Table([mount for mount in top.values() if mount.kind != "autofs"], triggers)


def target_of(link: str) -> str:
    """Return where a link leads; nothing if it has gone."""
    try:
        return os.readlink(link)
    except OSError:
        return ""


def serves(number: str) -> bool:
    """Return whether a process serves a mount of FUSE, and is not only told of one, as an ls of an administrator is."""
    with os.scandir(f"/proc/{number}/fd") as handles:
        # The kernel ends the connection with the last of these. A client that has much to do closes others meanwhile.
        return any(target_of(handle.path) == "/dev/fuse" for handle in handles)


def read_processes(mounts: list[Mount]) -> Processes:
    """Return who works in each mount of FUSE, and the processes that serve them, none of which is a user's."""
    places = sorted((mount.place for mount in mounts), key=len, reverse=True)
    # A bind mount has the device of what it shows, whose place is what the client was told on its command line.
    devices = {mount.place: mount.device for mount in mounts}
    visitors: dict[str, list[Visitor]] = {}
    clients: dict[str, str] = {}
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
                told = devices.keys() & text_of(f"/proc/{number}/cmdline").split("\0")
                if told and serves(number):
                    clients.update({devices[place]: number for place in told})
        except OSError:
            # It has ended.
            continue
    return Processes(visitors, clients)


def connection_of(mount: Mount) -> str:
    """Return the directory by which the kernel shows the connection of a FUSE mount."""
    return f"{CONNECTIONS}/{mount.device.partition(':')[2]}"


def waiting(mount: Mount) -> int:
    """Return how many requests wait for the client of a FUSE mount; 0 for other kinds."""
    try:
        return int(text_of(f"{connection_of(mount)}/waiting"))
    except (OSError, ValueError):
        return 0


def started_at(number: int | str) -> str:
    """Return when a process was started as the kernel says it, or nothing if it has ended."""
    try:
        fields = text_of(f"/proc/{number}/stat").rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] == "Z" else fields[19]


def note_of(mount: Mount) -> str:
    """Return the file that names the probe that sits at a mount."""
    return f"{STATE}/{mount.place.strip('/').replace('/', '-')}"


def write(path: str, text: str) -> None:
    """Write a file."""
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


def is_stuck(mount: Mount) -> bool:
    """Return whether a probe of an earlier look sits at this very mount still."""
    try:
        number, started, device = text_of(note_of(mount)).split()
    except (OSError, ValueError):
        return False
    return device == mount.device and started == started_at(number)


def ask(mount: Mount, visitor: Visitor | None) -> str:
    """Return what is wrong with a mount, or nothing. This may take indefinitely."""
    try:
        if mount.is_fuse:
            with os.scandir(visitor.directory if visitor else mount.place) as entries:
                next(entries, None)
        else:
            os.statvfs(mount.place)
    except (FileNotFoundError, PermissionError):
        # A server has said so, or a user has removed the directory: the mount works.
        return ""
    except OSError as error:
        return os.strerror(error.errno or 0)
    return ""


def become(visitor: Visitor | None) -> None:
    """Act towards file systems as somebody, or as root again."""
    os.seteuid(0)
    os.setegid(0)
    if visitor:
        os.setgroups([])
        os.setegid(visitor.gid)
        os.seteuid(visitor.uid)


class Probe:
    """A process that asks mounts, one after the other; each may take so many seconds, after which no other is asked."""

    def __init__(self, asked: dict[Mount, Visitor | None], seconds: float) -> None:
        """Start it."""
        self.asked, self.seconds = asked, seconds
        self.end = time.monotonic() + seconds
        self.reading, writing = os.pipe()
        self.number = os.fork()
        if self.number == 0:
            try:
                # Clients remember credentials by session; this one is not to be taken for another.
                os.setsid()
                nothing = os.open(os.devnull, os.O_RDWR)
                for handle in (0, 1, 2):
                    os.dup2(nothing, handle)
                for mount, visitor in asked.items():
                    if time.monotonic() < self.end:
                        become(visitor)
                        os.write(writing, f"{ask(mount, visitor)}\n".encode())
            finally:
                os._exit(0)
        os.close(writing)

    def answers(self) -> dict[Mount, str]:
        """Return what is wrong with each mount that was asked, or nothing; it may sit at the last one."""
        said, has_ended, end = b"", False, self.end
        while not has_ended and select.select([self.reading], [], [], max(0.0, end - time.monotonic()))[0]:
            part = os.read(self.reading, 4096)
            said, has_ended, end = said + part, not part, time.monotonic() + self.seconds
        os.close(self.reading)
        found = dict(zip(self.asked, said.decode().splitlines(), strict=False))
        if has_ended:
            os.waitpid(self.number, 0)
        elif len(found) < len(self.asked):
            mount = list(self.asked)[len(found)]
            found[mount] = SILENT
            write(note_of(mount), f"{self.number} {started_at(self.number)} {mount.device}")
        return found


def one_of(visitors: list[Visitor]) -> Visitor | None:
    """Return somebody to ask as: not root, if possible, and another one each time, for one may have no rights there."""
    candidates = [visitor for visitor in visitors if visitor.uid] or visitors
    return candidates[int(time.time()) % len(candidates)] if candidates else None


def look(table: Table, processes: Processes, requests: dict[Mount, int], seconds: float) -> dict[Mount, str]:
    """Return what is wrong with each mount, or nothing.

    Mostly all are well, and one process asks all of them. What it does not come to is probed side by side.
    """
    found: dict[Mount, str] = {}
    asked: dict[Mount, Visitor | None] = {}
    for mount in table.mounts:
        visitor = one_of(processes.visitors.get(mount.place, []))
        idle = mount.is_fuse and not visitor and mount.device in processes.clients and not requests[mount]
        if is_stuck(mount):
            found[mount] = SILENT
        elif idle:
            found[mount] = ""
        else:
            asked[mount] = visitor
    if asked:
        found |= Probe(asked, seconds).answers()
    probes = [Probe({mount: visitor}, seconds) for mount, visitor in asked.items() if mount not in found]
    for probe in probes:
        found |= probe.answers()
    return {mount: found.get(mount, "nobody could look at it") for mount in table.mounts}


def give_up(mount: Mount) -> str:
    """Take a mount away, whoever waits for it; return what went wrong."""
    abort = f"{connection_of(mount)}/abort"
    if mount.is_fuse and os.path.exists(abort):
        write(abort, "1")
        # Those who sat there are let go, and with them what keeps the mount busy.
        end = time.monotonic() + ABORT_PATIENCE
        while is_stuck(mount) and time.monotonic() < end:
            time.sleep(0.05)
    return run("umount", "--lazy", mount.place)[1]


def run(*command: str) -> tuple[str, str]:
    """Run a program; return what it prints, and what it complains about if it fails."""
    # Here, for to import it takes as long as a whole look, and mostly there is nothing to run.
    import subprocess

    done = subprocess.run(["timeout", "30", *command], capture_output=True, text=True, check=False)
    problem = done.stderr.strip() or f"{command[0]} ended with {done.returncode}"
    return done.stdout.strip(), problem if done.returncode else ""


def words_of(path: str) -> list[list[str]]:
    """Return the words of each line of a file that are no comment."""
    try:
        lines = text_of(path).splitlines()
    except OSError:
        return []
    return [line.split() for line in lines if line.strip() and not line.startswith("#")]


def mounts_of_fstab(directories: list[str], path: str = "/etc/fstab") -> list[str]:
    """Return the places at or below directories that /etc/fstab mounts when the host starts."""
    entries = [words for words in words_of(path) if len(words) > 3 and "noauto" not in words[3].split(",")]
    return [words[1] for words in entries if is_at_or_below(words[1], *directories)]


def files_in(directory: str, ending: str) -> list[str]:
    """Return the files of a directory whose names end so."""
    try:
        return [f"{directory}/{name}" for name in sorted(os.listdir(directory)) if name.endswith(ending)]
    except OSError:
        return []


def expected_triggers(watched: list[str], root: str = "/") -> dict[str, str]:
    """Return the places at or below directories at which triggers belong, each with the unit that sets it up."""
    found = {}
    for path in [f"{root}etc/auto.master", *files_in(f"{root}etc/auto.master.d", ".autofs")]:
        for words in words_of(path):
            # Without its map there is nothing that autofs could mount. Maps that are no files are not known here.
            map_file = root + words[1].lstrip("/") if len(words) > 1 else ""
            if os.path.isfile(map_file):
                # A direct map names the places itself.
                direct = words_of(map_file) if words[0] == "/-" else [words]
                found.update({place: "autofs.service" for place, *_ in direct})
    for directories in ("etc/systemd/system", "run/systemd/generator"):
        for path in files_in(f"{root}{directories}", ".automount"):
            for line in text_of(path).splitlines():
                if line.startswith("Where="):
                    found[line.removeprefix("Where=").strip()] = os.path.basename(path)
    return {place: unit for place, unit in found.items() if is_at_or_below(place, *watched)}


def has_lost(unit: str) -> bool:
    """Return whether a unit lacks a trigger because somebody has unmounted it, and not because it was stopped."""
    state, _ = run("systemctl", "show", "--value", "--property=ActiveState", unit)
    return state == ("active" if unit == "autofs.service" else "failed")


def missing_triggers(directories: list[str], table: Table) -> dict[str, str]:
    """Return the triggers that somebody has unmounted, each with its unit."""
    there = table.triggers | {mount.place for mount in table.mounts}
    missing = {place: unit for place, unit in expected_triggers(directories).items() if place not in there}
    lost = {unit for unit in set(missing.values()) if has_lost(unit)}
    return {place: unit for place, unit in missing.items() if unit in lost}


def set_up(unit: str) -> str:
    """Have a unit set up its triggers again; return what went wrong."""
    if unit == "autofs.service":
        # A restart would end all clients that it has started.
        return run("systemctl", "reload", unit)[1]
    # A client that crashes again and again would meet the limit of starts.
    run("systemctl", "reset-failed", unit, unit.replace(".automount", ".mount"))
    return run("systemctl", "start", unit)[1]


def told_by(client: str, repository: str, end: float) -> str:
    """Return what a client of CVMFS tells of itself until a time of the monotonic clock; others tell nothing."""
    path = f"/proc/{client}/cwd/cvmfs_io.{repository}"
    said = b""
    if os.path.exists(path):
        # Here, for the same reason as in `run`.
        import socket

        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(max(0.1, end - time.monotonic()))
                connection.connect(path)
                connection.sendall(b"metrics prometheus")
                while len(said) < LONGEST_ANSWER and (part := connection.recv(1 << 16)):
                    said += part
        except OSError:
            # Half an answer is none: counters would vanish and come back.
            return ""
    return said.decode(errors="replace")


def merged(texts: list[str]) -> list[str]:
    """Return metrics of several clients as one text: the format wants each described once, and numbers only."""
    if not any(texts):
        return []
    import re

    described: dict[str, dict[str, str]] = {}
    values: dict[str, list[str]] = {}
    for line in "\n".join(texts).splitlines():
        if about := re.fullmatch(r"# (HELP|TYPE) (cvmfs_\w+) .*", line):
            described.setdefault(about[2], {}).setdefault(about[1], line)
        elif value := re.fullmatch(r"(cvmfs_\w+)(\{.*\})? -?[0-9][0-9.eE+-]*", line):
            # The URL of a proxy may have a password, and anybody may read the file.
            values.setdefault(value[1], []).append(re.sub(r"(?<=//)[^/@\"]*@", "", line))
    return [line for name, found in values.items() for line in (*described.get(name, {}).values(), *found)]


def metrics(found: dict[Mount, str], requests: dict[Mount, int], missing: dict[str, str], of_clients: list[str]) -> str:
    """Return what was found in the text format of Prometheus."""
    up = {**{mount.place: 0 if why else 1 for mount, why in found.items()}, **dict.fromkeys(missing, 0)}
    lines = [
        "# HELP campushub_mount_up Whether a network file system answers; without users, whether its client runs.",
        "# TYPE campushub_mount_up gauge",
        *(f'campushub_mount_up{{mount="{place}"}} {value}' for place, value in up.items()),
        "# HELP campushub_mount_waiting_requests Requests that wait for the client of a FUSE mount.",
        "# TYPE campushub_mount_waiting_requests gauge",
        *(f'campushub_mount_waiting_requests{{mount="{mount.place}"}} {requests[mount]}' for mount in found),
        *of_clients,
    ]
    return "\n".join(lines) + "\n"


def repair(found: dict[Mount, str], table: Table, processes: Processes, directories: list[str], action: str) -> None:
    """Give up what is dead and comes back, or all that is not well if the site says so, and mount it again."""
    of_fstab = mounts_of_fstab(directories)
    given_up = []
    for mount, why in found.items():
        if not why:
            continue
        print(f"{mount.place} ({mount.kind}): {why}; {waiting(mount)} requests wait", file=sys.stderr)
        # Some clients say so while they run: that of GlusterFS does until its servers are back.
        is_dead = mount.is_fuse and why == DISCONNECTED and mount.device not in processes.clients
        comes_back = mount.place in of_fstab or {mount.place, os.path.dirname(mount.place)} & table.triggers
        if action == "remount" or (is_dead and comes_back):
            given_up.append(mount.place)
            print(f"{mount.place}: {give_up(mount) or 'given up, to be mounted again'}", file=sys.stderr)
    # What is mounted when somebody looks into it comes back by itself; the rest does not.
    there = table.triggers | {mount.place for mount in table.mounts} - set(given_up)
    for place in of_fstab:
        if place not in there and (action == "remount" or place in given_up):
            print(f"{place}: {run('mount', place)[1] or 'mounted again'}", file=sys.stderr)


def main(directories: list[str], seconds: float, destination: str, action: str) -> None:
    """Look once, report and repair."""
    os.makedirs(STATE, mode=0o700, exist_ok=True)
    table = read_table(directories)
    fuse = [mount for mount in table.mounts if mount.is_fuse]
    processes = read_processes(fuse) if fuse else Processes({}, {})
    requests = {mount: waiting(mount) for mount in table.mounts}
    found = look(table, processes, requests, seconds)
    # Of a mount that is well the kernel may not yet have closed what the probe has opened.
    requests |= {mount: waiting(mount) for mount, why in found.items() if why}
    missing = missing_triggers(directories, table)
    end = time.monotonic() + seconds
    told = [
        told_by(processes.clients[mount.device], os.path.basename(mount.place), end)
        for mount, why in found.items()
        if not why and mount.device in processes.clients
    ]
    os.makedirs(os.path.dirname(destination), exist_ok=True)
    # The collector must not read half of it, and does not read this name.
    new = f"{destination}.new"
    write(new, metrics(found, requests, missing, merged(told)))
    os.chmod(new, 0o644)
    os.replace(new, destination)
    repair(found, table, processes, directories, action)
    for unit in sorted(set(missing.values())):
        places = ", ".join(place for place, of in missing.items() if of == unit)
        problem = set_up(unit)
        print(f"{places}: nothing waits there to mount it; {problem or f'{unit} sets that up again'}", file=sys.stderr)


if __name__ == "__main__":
    main(sys.argv[1].split(":"), float(sys.argv[2]), sys.argv[3], sys.argv[4])
