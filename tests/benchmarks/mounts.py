#!/usr/bin/env python3
"""
What the watch over mounts costs, and what a look at a home adds to the start of a server.

    tests/benchmarks/mounts.py watch [--mounts 20] [--looks 10]
    tests/benchmarks/mounts.py start USER PASSWORD [--rounds 10]

`watch` mounts a stand-in for a network file system (tests/hanging_files.py) that often on this host, as root, and runs
the watch over all of them as its timer would: while nobody works there, and while somebody works in each. The figure is
the processor time of one look as a share of one core, for there is one look a minute. `start` runs on a hub with role
`homes` as root, with hub_client.py beside it, and starts the server of a user whose home is on a mount that is well,
with the look and without (/etc/campushub/homes.json is moved away), in turns.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
WATCH = HERE.parents[1] / "files" / "watch_mounts.py"
STAND_IN = HERE.parent / "hanging_files.py"
DOCUMENT = Path("/etc/campushub/homes.json")
NOBODY = 65534
LIMIT_PERCENT, LIMIT_MS = 0.1, 20


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
                begin = time.monotonic()
                subprocess.run([*client, "start"], stdout=subprocess.DEVNULL, check=True)
                found.append((time.monotonic() - begin) * 1000)
                if name == "without":
                    aside.rename(DOCUMENT)
                subprocess.run([*client, "stop"], stdout=subprocess.DEVNULL, check=True)
    finally:
        if aside.exists():
            aside.rename(DOCUMENT)
    for name, found in taken.items():
        print(f"{name} a look: median {statistics.median(found):.0f} ms, {min(found):.0f} to {max(found):.0f}")
    added = statistics.median(taken["with"]) - statistics.median(taken["without"])
    print(f"a look adds {added:.0f} ms")
    return int(added > LIMIT_MS)


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
    of_start.add_argument("--rounds", type=int, default=10)
    wanted = parser.parse_args()
    if os.getuid() != 0:
        sys.exit("Only root can mount the stand-in and reads what the hub does.")
    if wanted.part == "watch":
        return watch(wanted.mounts, wanted.looks)
    return start(wanted.user, wanted.password, wanted.rounds)


if __name__ == "__main__":
    sys.exit(main())
