#!/usr/bin/python3 -I
"""
Look at what is mounted below a directory, and say what hangs or is dead. Runs as root, by a timer.

``watch_mounts.py DIRECTORY SECONDS METRICS ACTION`` asks each mount at or below DIRECTORY how full it is, for SECONDS
at most, and writes what it found to the journal and to METRICS, in the text format of Prometheus. With ACTION
``remount`` it gives up what does not answer (aborts the connection of a FUSE mount, unmounts lazily) and has it mounted
again; with ``log`` it only tells.

Whoever asks a hung mount may sit in the kernel for ever, where no signal helps. So that is a process of its own that
nobody waits for after the deadline. As long as one sits at a mount, no other is sent there.
"""

from __future__ import annotations

import os
import select
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

STATE = Path("/run/campushub-watch")
CONNECTIONS = Path("/sys/fs/fuse/connections")
ABORT_PATIENCE = 2.0


class Mount(NamedTuple):
    """A mount, as the kernel lists it."""

    place: str
    kind: str
    device: str


def mounts_below(directory: str, table: Path = Path("/proc/self/mountinfo")) -> list[Mount]:
    """Return what is mounted at or below a directory, without touching it; only what is on top counts."""
    found = {}
    for line in table.read_text().splitlines():
        before, _, after = line.partition(" - ")
        fields = before.split()
        if f"{fields[4]}/".startswith(f"{directory}/"):
            found[fields[4]] = Mount(fields[4], after.split()[0], fields[2])
    return [mount for mount in found.values() if mount.kind != "autofs"]


def waiting(mount: Mount) -> int:
    """Return how many requests wait for the server of a FUSE mount; 0 for other kinds."""
    try:
        return int((CONNECTIONS / mount.device.partition(":")[2] / "waiting").read_text())
    except (OSError, ValueError):
        return 0


def sits_at(mount: Mount) -> Path:
    """Return the file that has the number of the process that was sent to a mount last."""
    return STATE / mount.place.strip("/").replace("/", "-")


def is_stuck(mount: Mount) -> bool:
    """Return whether somebody who was sent to this very mount sits there still."""
    try:
        number, started, device = sits_at(mount).read_text().split()
        fields = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()
    except (OSError, ValueError):
        return False
    return device == mount.device and fields[19] == started and fields[0] != "Z"


def trouble(mount: Mount, seconds: float) -> str:
    """Return what is wrong with a mount, or nothing."""
    if is_stuck(mount):
        return "it does not answer"
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setsid()
            if os.fork() == 0:
                nothing = os.open(os.devnull, os.O_RDWR)
                for handle in (0, 1, 2):
                    os.dup2(nothing, handle)
                os.close(reader)
                fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
                sits_at(mount).write_text(f"{os.getpid()} {fields[19]} {mount.device}")
                try:
                    os.statvfs(mount.place)
                    os.write(writer, b"well")
                except PermissionError:
                    # Root has no rights on some; that is an answer.
                    os.write(writer, b"well")
                except OSError as error:
                    os.write(writer, os.strerror(error.errno or 0).encode())
        finally:
            os._exit(0)
    os.close(writer)
    os.waitpid(child, 0)
    ready, _, _ = select.select([reader], [], [], seconds)
    said = os.read(reader, 4096).decode() if ready else "it does not answer"
    os.close(reader)
    return "" if said == "well" else said or "nobody could look at it"


def give_up(mount: Mount) -> str:
    """Take a mount away, whoever waits for it; return what went wrong."""
    abort = CONNECTIONS / mount.device.partition(":")[2] / "abort"
    if mount.kind.startswith("fuse") and abort.exists():
        abort.write_text("1")
        # Those who sat there are let go, and with them what keeps the mount busy.
        end = time.monotonic() + ABORT_PATIENCE
        while is_stuck(mount) and time.monotonic() < end:
            time.sleep(0.05)
    done = subprocess.run(["umount", "--lazy", mount.place], capture_output=True, text=True, check=False)
    return done.stderr.strip() if done.returncode else ""


def not_mounted(directory: str) -> list[str]:
    """Return what /etc/fstab mounts below a directory and nothing is mounted at, not even something that waits."""
    command = ["findmnt", "--fstab", "--noheadings", "--list", "--output=TARGET,OPTIONS"]
    listed = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    mounted = {line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()}
    wanted = [line.split()[0] for line in listed.splitlines() if "noauto" not in line.split()[-1].split(",")]
    return [place for place in wanted if f"{place}/".startswith(f"{directory}/") and place not in mounted]


def mount_again(place: str) -> str:
    """Mount what /etc/fstab has for a place; return what went wrong."""
    done = subprocess.run(["timeout", "30", "mount", place], capture_output=True, text=True, check=False)
    return (done.stderr.strip() or f"mount ended with {done.returncode}") if done.returncode else ""


def metrics(found: dict[Mount, str]) -> str:
    """Return what was found in the text format of Prometheus."""
    lines = [
        "# HELP campushub_mount_up Whether a network file system answers.",
        "# TYPE campushub_mount_up gauge",
        *(f'campushub_mount_up{{mount="{mount.place}"}} {0 if why else 1}' for mount, why in found.items()),
        "# HELP campushub_mount_waiting_requests Requests that wait for the server of a FUSE mount.",
        "# TYPE campushub_mount_waiting_requests gauge",
        *(f'campushub_mount_waiting_requests{{mount="{mount.place}"}} {waiting(mount)}' for mount in found),
    ]
    return "\n".join(lines) + "\n"


def main(directory: str, seconds: float, destination: Path, action: str) -> int:
    """Look once; return how many mounts are not well."""
    STATE.mkdir(mode=0o700, exist_ok=True)
    found = {mount: trouble(mount, seconds) for mount in mounts_below(directory)}
    destination.parent.mkdir(parents=True, exist_ok=True)
    new = destination.with_name(f".{destination.name}.new")
    new.write_text(metrics(found))
    new.chmod(0o644)
    new.replace(destination)
    for mount, why in found.items():
        if why:
            print(f"{mount.place} ({mount.kind}): {why}; {waiting(mount)} requests wait", file=sys.stderr)
            if action == "remount":
                print(f"{mount.place}: {give_up(mount) or 'given up, to be mounted again'}", file=sys.stderr)
    # What is mounted when somebody looks into it comes back by itself; the rest does not.
    for place in not_mounted(directory) if action == "remount" else []:
        print(f"{place}: {mount_again(place) or 'mounted again'}", file=sys.stderr)
    return sum(1 for why in found.values() if why)


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]), Path(sys.argv[3]), sys.argv[4])
