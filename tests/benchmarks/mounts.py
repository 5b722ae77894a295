#!/usr/bin/env python3
"""
What the watch over mounts costs, what a look at a home adds to a start, and how long a dead mount stays away.

    tests/benchmarks/mounts.py watch [--mounts 20] [--looks 10]
    tests/benchmarks/mounts.py start USER PASSWORD [--rounds 15]
    tests/benchmarks/mounts.py back PLACE [--times 10] [--alone]

`watch` mounts a stand-in for a network file system (tests/hanging_files.py) that often on this host, as root, and runs
the watch over all of them as its timer would: while nobody works there, and while somebody works in each. The figure is
the processor time of one look as a share of one core, for there is one look a minute. `start` runs on a hub with role
`homes` as root, with hub_client.py beside it, and starts the server of a user whose home is on a mount that is well,
with the look and without (/etc/campushub/homes.json is moved away), in turns. `back` runs as root on a host with role
`eos` and `homes`, or `cvmfs`: it kills the client of what is mounted at PLACE, and the watchdog that some clients have,
and nobody does anything but look there as a user would, until the timer of the watch has repaired it. Each kill follows
the repair before at once, when the next look of the watch is farthest away.
"""

from __future__ import annotations

import argparse
import os
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
WATCH = HERE.parent.parent / "files" / "watch_mounts.py"
STAND_IN = HERE.parent / "hanging_files.py"
DOCUMENT = Path("/etc/campushub/homes.json")
NOBODY = 65534
LIMIT_PERCENT, LIMIT_MS, LIMIT_SECONDS = 0.1, 20, 90


def processor_seconds() -> float:
    """Return the processor time of all children that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def looks(directory: Path, number: int) -> float:
    """Return the processor time of one look in seconds, the median of several."""
    taken = []
    for _ in range(number):
        before = processor_seconds()
        command: list[str | Path] = [
            "/usr/bin/python3",
            "-IS",
            WATCH,
            directory,
            "5",
            directory / "metrics" / "mounts.prom",
            "log",
        ]
        subprocess.run(command, check=True)
        taken.append(processor_seconds() - before)
    return statistics.median(taken)


def watch(mounts: int, number: int) -> int:
    """Measure the watch; return how many limits are not kept."""
    missed = 0
    with tempfile.TemporaryDirectory() as scratch:
        directory = Path(scratch)
        directory.chmod(0o755)
        places = [directory / f"home-{index}" for index in range(mounts)]
        servers: list[subprocess.Popen[bytes]] = []
        visitors: list[subprocess.Popen[bytes]] = []
        try:
            for place in places:
                place.mkdir()
                server = subprocess.Popen([sys.executable, STAND_IN, place, str(NOBODY)], stdout=subprocess.PIPE)
                servers.append(server)
                assert server.stdout
                server.stdout.readline()
            for name in ("nobody works there", "somebody works in each"):
                seconds = looks(directory, number)
                percent = seconds / 60 * 100
                missed += percent > LIMIT_PERCENT
                print(f"{mounts} mounts, {name}: {seconds * 1000:.0f} ms a look, {percent:.3f} % of a core")
                if not visitors:
                    visitors = [subprocess.Popen(["sleep", "600"], cwd=place, user=NOBODY) for place in places]
        finally:
            for process in [*visitors, *servers]:
                process.kill()
                process.wait()
            for place in places:
                subprocess.run(["umount", "--lazy", place], check=False)
    return missed


def start(user: str, password: str, rounds: int) -> int:
    """Measure starts; return whether the limit is not kept."""
    aside = DOCUMENT.with_suffix(".aside")
    client: list[str | Path] = [
        "/opt/campushub/hub/bin/python",
        HERE / "hub_client.py",
        "http://127.0.0.1:980",
        user,
        password,
    ]
    subprocess.run([*client, "stop"], stdout=subprocess.DEVNULL, check=False)
    taken: dict[str, list[float]] = {"with": [], "without": []}
    try:
        for _ in range(rounds):
            for name, found in taken.items():
                if name == "without":
                    DOCUMENT.rename(aside)
                # Without the login, and without the time in which the client itself starts.
                printed = subprocess.run([*client, "start"], stdout=subprocess.PIPE, text=True, check=True).stdout
                found.append(float(printed) * 1000)
                if name == "without":
                    aside.rename(DOCUMENT)
                subprocess.run([*client, "stop"], stdout=subprocess.DEVNULL, check=True)
    finally:
        if aside.exists():
            aside.rename(DOCUMENT)
    for name, found in taken.items():
        print(f"{name} a look: median {statistics.median(found):.0f} ms, {min(found):.0f} to {max(found):.0f}")
    # Neighbours in time, for a machine is not equally busy all the while.
    added = statistics.median(a - b for a, b in zip(taken["with"], taken["without"], strict=True))
    print(f"a look adds {added:.0f} ms (median of {rounds} pairs)")
    return int(added > LIMIT_MS)


def is_mounted(place: str) -> bool:
    """Look into a mount as a user who has no rights, which mounts it."""
    look = subprocess.run(["timeout", "20", "ls", place], user=NOBODY, capture_output=True, check=False)
    return look.returncode == 0 and f" {place} fuse" in Path("/proc/mounts").read_text()


def clients_of(place: str, alone: bool) -> list[int]:
    """Return the process that serves a mount and, unless it is wanted alone, before it the program's other ones."""
    named: list[int] = []
    holders: dict[int, int] = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if place.encode() not in (process / "cmdline").read_bytes().split(b"\0"):
                continue
            named.append(int(process.name))
            if any(handle.readlink() == Path("/dev/fuse") for handle in (process / "fd").iterdir()):
                holders[int(process.name)] = int((process / "stat").read_text().rsplit(")", 1)[1].split()[1])
        except OSError:
            continue
    if not holders:
        sys.exit(f"nothing serves {place}")
    # eosxd has a child that runs commands for it and has inherited the device; the child ends with it.
    serving = next(number for number, parent in holders.items() if parent not in holders)
    program = Path(f"/proc/{serving}/exe").readlink()
    others = [number for number in named if number != serving and Path(f"/proc/{number}/exe").readlink() == program]
    return [serving] if alone else [*others, serving]


def back(place: str, times: int, alone: bool) -> int:
    """Measure how long a dead mount stays away; return how often that was longer than the limit."""
    taken = []
    for _ in range(times):
        end = time.monotonic() + 60
        while not is_mounted(place):
            if time.monotonic() > end:
                sys.exit(f"{place} cannot be mounted")
            time.sleep(0.5)
        for number in clients_of(place, alone):
            os.kill(number, signal.SIGKILL)
        begin = time.monotonic()
        time.sleep(0.2)
        while not is_mounted(place) and time.monotonic() - begin < 3 * LIMIT_SECONDS:
            time.sleep(0.5)
        taken.append(time.monotonic() - begin)
    late = sum(seconds > LIMIT_SECONDS for seconds in taken)
    print(
        f"{place} came back after {statistics.median(taken):.0f} s (median of {times}), {min(taken):.0f} to "
        f"{max(taken):.0f}; {times - late} of {times} within {LIMIT_SECONDS} s"
    )
    return late


def main() -> int:
    """Measure what the command line says; the exit status is not 0 if a limit is not kept."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = parser.add_subparsers(dest="part", required=True)
    of_watch = parts.add_parser("watch")
    of_watch.add_argument("--mounts", type=int, default=20)
    of_watch.add_argument("--looks", type=int, default=10)
    of_start = parts.add_parser("start")
    of_start.add_argument("user")
    of_start.add_argument("password")
    of_start.add_argument("--rounds", type=int, default=15)
    of_back = parts.add_parser("back")
    of_back.add_argument("place")
    of_back.add_argument("--times", type=int, default=10)
    of_back.add_argument("--alone", action="store_true", help="kill the client and none of its helpers")
    wanted = parser.parse_args()
    if os.getuid() != 0:
        sys.exit("Only root can mount the stand-in and reads what the hub does.")
    if wanted.part == "watch":
        return watch(wanted.mounts, wanted.looks)
    if wanted.part == "back":
        return back(wanted.place, wanted.times, wanted.alone)
    return start(wanted.user, wanted.password, wanted.rounds)


if __name__ == "__main__":
    sys.exit(main())
